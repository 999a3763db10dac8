"""Settings of the CPU's kernels and threads, and the cache of compiled programs."""

import atexit
import ctypes
import os
import warnings
from contextlib import suppress
from pathlib import Path

import jax
from scipy.linalg import cython_lapack

from isojax.runs.bucket import is_url

FOLDER = ".compiled"
MOST_BYTES = 2**29
_KERNELS = "--xla_cpu_experimental_ynn_fusion_type"


def configure_cpu() -> None:
    """Sets the kernels and the threads for computations on the CPU.

    XLA uses Eigen's convolutions instead of YNNPACK's, and LAPACK one thread. Both
    make training steps faster; benchmarks/README.md has the measurements. Must be
    called before the first JAX computation. Has no effect on other backends.
    """
    _use_eigen_convolutions()
    _use_one_lapack_thread()


def _use_eigen_convolutions() -> None:
    """Sets XLA's flag for Eigen's convolutions, unless XLA_FLAGS already has it.

    Eigen computes weight gradients 2 to 10 times as fast as YNNPACK, which still
    computes products and sums. Later versions of JAX use XLA's default kernels.
    """
    flags = os.environ.get("XLA_FLAGS", "")
    # XLA exits on an unknown flag: set it only for versions known to have it.
    if _KERNELS not in flags and jax.__version_info__ < (0, 13):
        os.environ["XLA_FLAGS"] = f"{flags} {_KERNELS}=individual_dot,reduce".strip()


def _use_one_lapack_thread() -> None:
    """Makes SciPy's OpenBLAS, which computes JAX's `eigh` on the CPU, use one thread.

    After each call OpenBLAS's other threads wait actively for the next one, which takes
    the cores from the rest of the training step. Does nothing if SciPy uses another
    library.
    """
    # Finds the functions of the libraries that the module is linked with.
    library = ctypes.CDLL(cython_lapack.__file__)
    # SciPy's wheels rename the functions of their copy of OpenBLAS.
    for name in ("scipy_openblas_set_num_threads", "openblas_set_num_threads"):
        if hasattr(library, name):
            getattr(library, name)(1)


def enable_compilation_cache(workdir: str | os.PathLike) -> None:
    """Caches compiled programs beside a run's folder, unless JAX has a cache elsewhere.

    Runs in the same parent folder share the cache. Now and when the process exits, the
    least recently used programs are deleted until the rest take at most `MOST_BYTES`.
    Errors of the cache, such as a full disk, are ignored: a program that cannot be read
    or written is compiled again. JAX_COMPILATION_CACHE_DIR sets another folder, which
    is not pruned; JAX_ENABLE_COMPILATION_CACHE=false disables the cache.

    Args:
      workdir: the run's folder. Programs of runs in a bucket are cached in the home
        directory, in `.cache/isojax`.
    """
    warnings.filterwarnings(
        "ignore", message="Error (reading|writing) persistent compilation cache entry"
    )
    # JAX defines its settings at run time.
    if jax.config.jax_compilation_cache_dir is None:  # type: ignore[attr-defined]
        if is_url(workdir):
            folder = Path.home() / ".cache" / "isojax" / FOLDER
        else:
            folder = Path(workdir).absolute().parent / FOLDER
        jax.config.update("jax_compilation_cache_dir", str(folder))
        # A run compiles dozens of small programs when it starts, three seconds in all.
        jax.config.update("jax_persistent_cache_min_compile_time_secs", 0)
        # JAX's own limit, jax_compilation_cache_max_size, fails on a folder that was
        # written without it or by a process that was killed: it expects a file with the
        # last access time of each program, and stores nothing if one is missing.
        prune_compilation_cache(folder)
        atexit.register(prune_compilation_cache, folder)


def prune_compilation_cache(folder: Path, most_bytes: int = MOST_BYTES) -> None:
    """Deletes the least recently used programs until the rest fit.

    Args:
      folder: the folder of the compilation cache; it need not exist.
      most_bytes: the limit for the size of the remaining programs.
    """
    programs = []
    with suppress(OSError):
        for path in folder.iterdir():
            with suppress(OSError):  # deleted by another process
                status = path.stat()
                # Some file systems do not record when a file was read.
                used = max(status.st_atime_ns, status.st_mtime_ns)
                programs.append((used, status.st_size, path))
    total = sum(size for _, size, _ in programs)
    for _, size, path in sorted(programs):
        if total <= most_bytes:
            return
        with suppress(OSError):
            path.unlink()
            total -= size
