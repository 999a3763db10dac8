"""How programs are compiled: with which of XLA's kernels, and where they are cached."""

import atexit
import os
import warnings
from contextlib import suppress
from pathlib import Path

import jax

FOLDER = ".compiled"
MOST_BYTES = 2**29
_KERNELS = "--xla_cpu_experimental_ynn_fusion_type"


def choose_kernels() -> None:
    """Makes XLA for CPU use Eigen's convolutions instead of YNNPACK's.

    Their weight gradients are two to three times as fast, a training step of ResNet-18
    one and a half times (`python -m benchmarks.train_step`); products and sums stay
    YNNPACK's. Other backends ignore the flag. Call this before JAX first computes.
    Where XLA_FLAGS names kernels already, nothing is changed.
    """
    flags = os.environ.get("XLA_FLAGS", "")
    # XLA ends the process at an unknown flag, so it is set only where it was tried.
    if _KERNELS not in flags and jax.__version_info__ < (0, 11):
        os.environ["XLA_FLAGS"] = f"{flags} {_KERNELS}=individual_dot,reduce".strip()


def keep_programs(workdir: str | os.PathLike) -> None:
    """Caches compiled programs beside a run's folder, unless JAX has a cache elsewhere.

    Runs in folders side by side share the cache. Now and when the process exits, the
    programs used longest ago are deleted until the rest take at most `MOST_BYTES`.
    Errors of the cache, such as a full disk, are ignored: a program that cannot be read
    or written is compiled again. JAX_COMPILATION_CACHE_DIR names another place, which
    is not pruned; JAX_ENABLE_COMPILATION_CACHE=false turns the cache off.

    Args:
      workdir: the run's folder.
    """
    warnings.filterwarnings(
        "ignore", message="Error (reading|writing) persistent compilation cache entry"
    )
    if jax.config.jax_compilation_cache_dir is None:
        folder = Path(workdir).absolute().parent / FOLDER
        jax.config.update("jax_compilation_cache_dir", str(folder))
        # A start compiles dozens of small ones, three seconds in all.
        jax.config.update("jax_persistent_cache_min_compile_time_secs", 0)
        # JAX's own limit, jax_compilation_cache_max_size, needs another package.
        prune_programs(folder)
        atexit.register(prune_programs, folder)


def prune_programs(folder: Path, most_bytes: int = MOST_BYTES) -> None:
    """Deletes the programs used longest ago until the rest fit.

    Args:
      folder: of the compilation cache; it need not exist.
      most_bytes: that the remaining programs take at most.
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
