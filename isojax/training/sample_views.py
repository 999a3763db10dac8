"""The figure of the views that a run trains on."""

from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

import jax
import numpy as np

from isojax.runs import layout
from isojax.training.feeding import Feed
from isojax.training.settings import ViewPair
from isojax.training.step import make_views

if TYPE_CHECKING:
    from isojax.training.streamed_feed import StreamedFeed

_IMAGES, _STEPS = 8, 4


def draw_views(figures: Path, feed: "Feed | StreamedFeed", views: ViewPair) -> None:
    """Draws `views.png`: a few images and their views in several steps.

    Args:
      figures: folder of the figure, created if it is missing.
      feed: feed of the run.
      views: settings of the views.

    Raises:
      OSError: if the figure cannot be written.
    """
    from isojax.reporting.figures import save_views  # with Matplotlib

    figures.mkdir(exist_ok=True)
    indices = np.linspace(0, len(feed) - 1, _IMAGES).astype(np.int32)
    draw = jax.jit(partial(make_views, views=views))
    mean, std = np.array(views.mean), np.array(views.std)
    batches = [feed.examples(indices, epoch=step) for step in range(_STEPS)]
    drawn = [
        np.asarray(view) * std + mean
        for step, batch in enumerate(batches)
        for view in draw(jax.random.key(step), batch)
    ]
    save_views(figures / layout.VIEWS_PICTURE, batches[0]["images"], drawn)
