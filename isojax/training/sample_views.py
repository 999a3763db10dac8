"""The figure of the views that a run trains on."""

from functools import partial
from pathlib import Path

import jax
import numpy as np

from isojax.runs import layout
from isojax.training.settings import ViewPair
from isojax.training.step import make_views

_IMAGES, _STEPS = 8, 4


def draw_views(figures: Path, images: np.ndarray, views: ViewPair) -> None:
    """Draws `views.png`: a few images and their views in several steps.

    Args:
      figures: folder of the figure, created if it is missing.
      images: the run's images, uint8, shape (n, h, w, c).
      views: settings of the views.

    Raises:
      OSError: if the figure cannot be written.
    """
    from isojax.reporting.figures import save_views  # with Matplotlib

    figures.mkdir(exist_ok=True)
    indices = np.linspace(0, len(images) - 1, _IMAGES).astype(np.int32)
    batch = {"images": images[indices], "indices": indices}
    draw = jax.jit(partial(make_views, views=views))
    mean, std = np.array(views.mean), np.array(views.std)
    drawn = [
        np.asarray(view) * std + mean
        for step in range(_STEPS)
        for view in draw(jax.random.key(step), batch)
    ]
    save_views(figures / layout.VIEWS_PICTURE, batch["images"], drawn)
