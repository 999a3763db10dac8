"""The environment in which JAX compiles for accelerators that are not present.

JAX and its libraries read the variables when they are imported. This module imports
none of them.
"""

import os
import re
import shutil
from collections.abc import MutableMapping
from importlib import metadata, util
from pathlib import Path

from isojax.errors import UsageError
from isojax.targets.names import Target

LIBRARY = "TPU_LIBRARY_PATH"
_CUDA_FLAG = "--xla_gpu_cuda_data_dir"
_AUTOTUNE_FLAG = "--xla_gpu_autotune_level"


def prepare(target: Target, environment: MutableMapping[str, str] = os.environ) -> None:
    """Checks the libraries that a target needs, and sets the variables for JAX.

    Must be called before JAX is imported.

    Args:
      target: the target.
      environment: the variables that are set.

    Raises:
      UsageError: if a library is missing, or of another version than JAX needs. The
        message says what to install.
    """
    # The arrays of this process are a few scalars.
    environment["JAX_PLATFORMS"] = "cpu"
    # Otherwise libtpu asks the machine for its TPU, for minutes.
    environment["TPU_SKIP_MDS_QUERY"] = "1"
    # The time to compile is measured.
    environment["JAX_ENABLE_COMPILATION_CACHE"] = "false"
    # XLA reports on standard error that a compilation takes minutes.
    if environment.get("TF_CPP_MIN_LOG_LEVEL", "1") != "0":
        environment["TF_CPP_MIN_LOG_LEVEL"] = "3"
    if target.platform == "tpu":
        _check_libtpu(environment)
        environment["TPU_ACCELERATOR_TYPE"] = "v5litepod-4"
        environment["TPU_WORKER_HOSTNAMES"] = "localhost"
        # Several programs may be compiled at a time: no TPU is used.
        environment["ALLOW_MULTIPLE_LIBTPU_LOAD"] = "1"
    else:
        _check_cuda_plugin()
        flags = environment.get("XLA_FLAGS", "")
        if _CUDA_FLAG not in flags:
            flags += f" {_CUDA_FLAG}={_cuda_toolkit(environment)}"
        # Without a GPU, kernels cannot be timed to choose between them.
        environment["XLA_FLAGS"] = f"{flags} {_AUTOTUNE_FLAG}=0".strip()


def required_version(package: str) -> str:
    """Returns the version of a package that JAX needs, such as "0.0.50.*".

    Args:
      package: a package that an extra of JAX requires, such as "libtpu".
    """
    for requirement in metadata.requires("jax") or []:
        name = re.match(rf"{package}(\[[^]]*\])?\s*(?P<versions>[^;]*)", requirement)
        if name is not None:
            # "==0.0.50.*", or "<=0.12.0.1,>=0.12.0.1"
            return name["versions"].split(",")[0].lstrip("<=> ").strip()
    raise ValueError(f"jax {metadata.version('jax')} has no extra with {package}")


def _check_libtpu(environment: MutableMapping[str, str]) -> None:
    needed = required_version("libtpu")
    install = (
        f"pip install --target=DIR 'libtpu=={needed}' and set "
        f"{LIBRARY}=DIR/libtpu/libtpu.so"
    )
    path = environment.get(LIBRARY)
    if path is not None:
        if not os.path.isfile(path):
            raise UsageError(f"{LIBRARY}={path} is not a file; {install}")
        folder = Path(path).absolute().parent.parent
        found = [
            d.version
            for d in metadata.distributions(path=[str(folder)])
            if d.name == "libtpu"
        ]
    else:
        try:
            found = [metadata.version("libtpu")]
        except metadata.PackageNotFoundError:
            raise UsageError(f"compiling for TPUs needs libtpu; {install}") from None
    prefix = needed.removesuffix("*")
    # A library without its metadata cannot be checked.
    if found and not (found[0] + ".").startswith(prefix):
        raise UsageError(
            f"libtpu {found[0]} does not fit jax {metadata.version('jax')}; {install}"
        )


def _check_cuda_plugin() -> None:
    needed = required_version("jax-cuda13-plugin")
    packages = ("jax-cuda13-plugin", "jax-cuda13-pjrt")
    install = f"pip install --no-deps {' '.join(f'{p}=={needed}' for p in packages)}"
    for package in packages:
        try:
            version = metadata.version(package)
        except metadata.PackageNotFoundError:
            raise UsageError(f"compiling for GPUs needs {package}; {install}") from None
        if version != needed:
            raise UsageError(
                f"{package} {version} does not fit jax {metadata.version('jax')}; "
                f"{install}"
            )


def _cuda_toolkit(environment: MutableMapping[str, str]) -> Path:
    """Returns the folder of the CUDA toolkit: bin/ptxas and nvvm/libdevice."""
    for folder in _toolkit_candidates(environment):
        if (folder / "bin" / "ptxas").is_file() and (folder / "nvvm").is_dir():
            return folder
    raise UsageError(
        "compiling for GPUs needs the CUDA toolkit; pip install nvidia-cuda-nvcc "
        "nvidia-nvvm, or set CUDA_HOME to its folder"
    )


def _toolkit_candidates(environment: MutableMapping[str, str]) -> list[Path]:
    candidates = [Path(environment["CUDA_HOME"])] if "CUDA_HOME" in environment else []
    spec = util.find_spec("nvidia")
    for location in (spec.submodule_search_locations or []) if spec else []:
        candidates += sorted(Path(location).glob("cu*"), reverse=True)
    compiler = shutil.which("nvcc")
    if compiler:
        candidates.append(Path(compiler).resolve().parent.parent)
    return [*candidates, *sorted(Path("/usr/local").glob("cuda*"), reverse=True)]
