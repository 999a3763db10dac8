"""How programs are compiled: with which of XLA's kernels, and where they are kept."""

import os
from pathlib import Path

import jax

FOLDER = ".compiled"
_KERNELS = "--xla_cpu_experimental_ynn_fusion_type"


def choose_kernels() -> None:
    """Has XLA for CPU take Eigen's convolutions instead of YNNPACK's.

    Their weight gradients are two to three times as fast, a training step of ResNet-18
    one and a half times (`python -m benchmarks.train_step`); products and sums stay
    YNNPACK's. Other backends ignore the flag. To be called before JAX first computes;
    where XLA_FLAGS names kernels already nothing is changed.
    """
    flags = os.environ.get("XLA_FLAGS", "")
    # XLA ends the process at a flag that it does not know: only where it was tried.
    if _KERNELS not in flags and jax.__version_info__ < (0, 11):
        os.environ["XLA_FLAGS"] = f"{flags} {_KERNELS}=individual_dot,reduce".strip()


def keep_programs(workdir: str | os.PathLike) -> None:
    """Keeps compiled programs beside a run's folder, where no other place is set.

    Runs in folders side by side share them. JAX_COMPILATION_CACHE_DIR names another
    place; JAX_ENABLE_COMPILATION_CACHE=false keeps none.

    Args:
      workdir: the run's folder.
    """
    if jax.config.jax_compilation_cache_dir is None:
        folder = Path(workdir).absolute().parent / FOLDER
        jax.config.update("jax_compilation_cache_dir", str(folder))
        # A start compiles dozens of small ones, three seconds in all.
        jax.config.update("jax_persistent_cache_min_compile_time_secs", 0)
