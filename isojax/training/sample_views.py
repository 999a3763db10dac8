"""The picture of the views that a run trains on."""

from functools import partial
from pathlib import Path

import jax
import numpy as np
from ml_collections import ConfigDict

from isojax.runs import layout
from isojax.training.step import make_views

_IMAGES, _STEPS = 8, 4


def draw_views(figures: Path, images: np.ndarray, config: ConfigDict) -> None:
    """Draws `views.png`: a few images, and their views in a few steps.

    Args:
      figures: folder for the picture, made where missing.
      images: of the run, uint8, shape (n, h, w, c).
      config: of the run.

    Raises:
      OSError: if it cannot be written.
    """
    from isojax.reporting.figures import save_views  # with Matplotlib

    figures.mkdir(exist_ok=True)
    indices = np.linspace(0, len(images) - 1, _IMAGES).astype(np.int32)
    batch = {"images": images[indices], "indices": indices}
    draw = jax.jit(partial(make_views, config=config))
    mean, std = np.array(config.data.mean), np.array(config.data.std)
    views = [
        np.asarray(view) * std + mean
        for step in range(_STEPS)
        for view in draw(jax.random.key(step), batch)
    ]
    save_views(figures / layout.VIEWS_PICTURE, batch["images"], views)
