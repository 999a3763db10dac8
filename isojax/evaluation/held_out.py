"""Selects a hyperparameter of a classifier on held-out training images."""

from collections.abc import Callable, Iterable, Sequence
from typing import Generic, NamedTuple, TypeVar

import numpy as np

from isojax.data import HELD_OUT_FRACTION, Split, hold_out
from isojax.data.dataset import ImageArray

CHOSEN_ON = "a stratified fifth of the training images"

Model = TypeVar("Model")


class Choice(NamedTuple, Generic[Model]):
    """A chosen setting.

    Attributes:
      setting: the setting with the highest accuracy on the held-out images; on a tie,
        the first.
      model: the model that was fitted with it, without the held-out images; None if
        there are none.
      accuracy: the accuracy of that model on the held-out images, 0 to 1; None if there
        are none.
    """

    setting: float
    model: Model | None
    accuracy: float | None


def hold_out_fifth(train: Split) -> tuple[Split, Split]:
    """Splits labelled images into those to fit on and a stratified fifth.

    Args:
      train: labelled images.

    Returns:
      The images to fit on, and the held-out images. No image is held out of a class
      with fewer than three images.
    """
    return hold_out(train, HELD_OUT_FRACTION)


def choose_setting(
    settings: Sequence[float],
    fitting: Split,
    held_out: Split,
    *,
    fit: Callable[[Split, Sequence[float]], Iterable[Model]],
    classify: Callable[[Model, ImageArray], np.ndarray],
) -> Choice[Model]:
    """Chooses among settings by the accuracy on held-out images.

    Args:
      settings: the settings, at least one; the first is chosen if nothing is held out.
      fitting: the images to fit on.
      held_out: the images to choose on.
      fit: returns one model per setting, in the order of the settings.
      classify: predicts classes, shape (n,), from a model and images.

    Returns:
      The choice.
    """
    choice: Choice[Model] = Choice(settings[0], None, None)
    if not len(held_out.labels):
        return choice
    for setting, model in zip(settings, fit(fitting, settings), strict=True):
        accuracy = accuracy_of(classify(model, held_out.images), held_out.labels)
        if choice.accuracy is None or accuracy > choice.accuracy:
            choice = Choice(setting, model, accuracy)
    return choice


def accuracy_of(predictions: np.ndarray, labels: np.ndarray) -> float:
    """Returns the fraction of predicted classes, shape (n,), that equal the labels."""
    return float(np.mean(predictions == labels))
