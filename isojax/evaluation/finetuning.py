"""The whole encoder trained further with labels."""

import math
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jax import Array
from ml_collections import ConfigDict

from isojax.data import Split, hold_out, training_batches
from isojax.data.augment import random_views
from isojax.evaluation.features import extract_features
from isojax.progress import SILENT, Advance, Progress
from isojax.schedules import warmup_cosine

LEARNING_RATES = (0.003, 0.01, 0.03)
EPOCHS = 10
_FEWEST_STEPS = 150  # a few labelled images are seen in more epochs
_BATCH_SIZE = 64
_WARMUP = 0.1  # part of the steps
_HELD_OUT = 0.2
_COLOURS = (
    "brightness",
    "contrast",
    "jitter_probability",
    "grayscale_probability",
    "blur_probability",
    "solarize_probability",
)
_MOMENTUM = optax.trace(decay=0.9, nesterov=True)

Apply = Callable[[dict, Array], Array]


class FineTuned(NamedTuple):
    """How well a fine-tuned encoder does.

    Attributes:
      learning_rate: the one that was chosen.
      validation_accuracy: on the held-out part of the training images, of the training
        that did not see it. None where too few images are labelled to hold any out.
      accuracy: on the test images.
      predictions: the class of each test image, shape (m,).
    """

    learning_rate: float
    validation_accuracy: float | None
    accuracy: float
    predictions: np.ndarray


def finetune(
    apply: Apply,
    variables: dict,
    train: Split,
    test: Split,
    *,
    augment: ConfigDict,
    epochs: int = EPOCHS,
    progress: Progress = SILENT,
) -> FineTuned:
    """Trains encoder and a linear head by SGD on labelled images.

    Nesterov momentum 0.9, no weight decay, warmup over a tenth of the steps and cosine
    decay. A fifth of each class is held out to choose the learning rate; then all is
    trained again on all training images and meets the test images once. BatchNorm keeps
    the statistics of pretraining: with few labels a batch has no good ones.

    Args:
      apply: from `(variables, images)` to features, as `load_encoder` gives it.
      variables: of the encoder, with `params`; they are not changed.
      train: labelled images.
      test: labelled images.
      augment: section of that name in the run's config; its crops, flips and other
        geometry are used, its colours are not.
      epochs: of each training.
      progress: reports the steps of all trainings.

    Returns:
      The accuracies.
    """
    classes = int(train.labels.max()) + 1
    step = _make_step(apply, _geometry(augment))
    start = _with_head(apply, variables, train.images[:1], classes)
    fitting, held = hold_out(train, _HELD_OUT)
    best, validation_accuracy = LEARNING_RATES[0], None
    trials = LEARNING_RATES if len(held.labels) else ()
    total = _length(train, epochs).steps
    total += sum(_length(fitting, epochs).steps for _ in trials)
    with progress.phase("fine-tuning", total=total, unit="steps") as advance:
        if trials:
            accuracies = []
            for rate in trials:
                trained = _train(step, start, fitting, rate, epochs, advance)
                predictions = _classify(apply, trained, held.images)
                accuracies.append(float(np.mean(predictions == held.labels)))
            best = trials[int(np.argmax(accuracies))]
            validation_accuracy = max(accuracies)
        trained = _train(step, start, train, best, epochs, advance)
        predictions = _classify(apply, trained, test.images)
    accuracy = float(np.mean(predictions == test.labels))
    return FineTuned(best, validation_accuracy, accuracy, predictions)


def _geometry(augment: ConfigDict) -> ConfigDict:
    none = {name: 0.0 for name in _COLOURS if name in augment}
    return ConfigDict(augment.to_dict() | none)


def _with_head(apply: Apply, variables: dict, image: np.ndarray, classes: int) -> dict:
    """Adds a linear classifier that starts at zero, (features, classes) and bias."""
    features = jax.eval_shape(apply, variables, image).shape[-1]
    head = {
        "kernel": jnp.zeros((features, classes), jnp.float32),
        "bias": jnp.zeros((classes,), jnp.float32),
    }
    return {**variables, "params": {"encoder": variables["params"], "head": head}}


def _logits(apply: Apply, variables: dict, images: Array) -> Array:
    params = variables["params"]
    features = apply({**variables, "params": params["encoder"]}, images)
    head = params["head"]
    return features @ head["kernel"] + head["bias"][None]


def _make_step(apply: Apply, augment: ConfigDict) -> Callable:
    """A step of SGD at a learning rate, whose batch is augmented with a key."""

    def loss(params, rest, images, labels):
        logits = _logits(apply, {**rest, "params": params}, images)
        return optax.softmax_cross_entropy_with_integer_labels(logits, labels).mean()

    @jax.jit
    def step(params, momentum, rest, batch, key, rate):
        keys = jax.vmap(lambda index: jax.random.fold_in(key, index))(batch["indices"])
        # Left in [0, 1]: `apply` normalises.
        channels = batch["images"].shape[-1]
        views = random_views(
            keys,
            batch["images"],
            config=augment,
            mean=(0.0,) * channels,
            std=(1.0,) * channels,
        )
        gradients = jax.grad(loss)(params, rest, views, batch["labels"])
        updates, momentum = _MOMENTUM.update(gradients, momentum)
        params = jax.tree.map(lambda p, u: p - rate * u, params, updates)
        return params, momentum

    return step


class _Length(NamedTuple):
    """Images of a batch, epochs of a training, and its steps in all."""

    batch_size: int
    epochs: int
    steps: int


def _length(split: Split, epochs: int) -> _Length:
    size = min(_BATCH_SIZE, len(split.labels))
    steps_per_epoch = len(split.labels) // size
    epochs = max(epochs, math.ceil(_FEWEST_STEPS / steps_per_epoch))
    return _Length(size, epochs, epochs * steps_per_epoch)


def _train(
    step: Callable,
    start: dict[str, Any],
    split: Split,
    rate: float,
    epochs: int,
    advance: Advance,
) -> dict[str, Any]:
    params, rest = start["params"], {k: v for k, v in start.items() if k != "params"}
    momentum = _MOMENTUM.init(params)
    size, epochs, total = _length(split, epochs)
    schedule = warmup_cosine(
        peak=rate, warmup_steps=round(_WARMUP * total), total_steps=total
    )
    rates = np.asarray(schedule(np.arange(total)), np.float32)
    number, key = 0, jax.random.key(0)
    for epoch in range(epochs):
        for batch in training_batches(split, batch_size=size, seed=0, epoch=epoch):
            params, momentum = step(
                params,
                momentum,
                rest,
                batch,
                jax.random.fold_in(key, number),
                rates[number],
            )
            number += 1
            advance(1)
    return {**rest, "params": params}


def _classify(apply: Apply, variables: dict, images: np.ndarray) -> np.ndarray:
    def logits(variables, images):
        return _logits(apply, variables, images)

    return extract_features(logits, variables, images).argmax(axis=1)
