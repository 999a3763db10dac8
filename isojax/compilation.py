"""Compiled programs kept on disk, so that a run that starts again need not wait."""

import os
from pathlib import Path

import jax

FOLDER = ".compiled"


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
