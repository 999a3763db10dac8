"""Fine-tuning: the encoder and a linear classifier trained with labels."""

import math
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jax import Array
from ml_collections import ConfigDict

from isojax import data_parallel
from isojax.data import Split, training_batches
from isojax.data.augment import ViewSettings, random_views
from isojax.data.dataset import ImageArray
from isojax.evaluation.features import extract_features
from isojax.evaluation.held_out import (
    CHOSEN_ON,
    accuracy_of,
    choose_setting,
    hold_out_fifth,
)
from isojax.evaluation.protocols import Measurement, ProtocolInputs
from isojax.progress import SILENT, Advance, Progress
from isojax.schedules import warmup_cosine
from isojax.training.settings import view_settings

LEARNING_RATES = (0.003, 0.01, 0.03)
EPOCHS = 10
_FEWEST_STEPS = 150  # per training; with few labelled images, epochs are added
_BATCH_SIZE = 64  # images, over all devices
_WARMUP = 0.1  # fraction of the steps
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
    """The accuracies of a fine-tuned encoder.

    Attributes:
      learning_rate: the chosen learning rate.
      validation_accuracy: the accuracy on the held-out part of the training images, of
        an encoder trained without them; None if there are too few labelled images to
        hold any out.
      accuracy: the accuracy on the test images.
      predictions: the predicted class of each test image, shape (m,).
    """

    learning_rate: float
    validation_accuracy: float | None
    accuracy: float
    predictions: np.ndarray


def measure(inputs: ProtocolInputs, progress: Progress) -> Measurement:
    """Measures a fine-tuned encoder; see `isojax.evaluation.protocols`."""
    apply, variables = inputs.encoder
    tuned = finetune(
        apply,
        variables,
        inputs.train,
        inputs.test,
        augment=inputs.augment,
        progress=progress,
    )
    return Measurement(
        {"finetune_accuracy": tuned.accuracy},
        {
            "finetune_learning_rate": tuned.learning_rate,
            "finetune_learning_rate_chosen_on": CHOSEN_ON,
            "finetune_validation_accuracy": tuned.validation_accuracy,
        },
    )


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
    """Trains an encoder and a linear classifier by SGD on labelled images.

    SGD has Nesterov momentum 0.9 and no weight decay; the learning rate has a warmup
    over a tenth of the steps and a cosine decay. A fifth of each class is held out to
    choose the learning rate; the encoder is then trained on all training images and
    evaluated on the test images once. BatchNorm keeps the statistics of pretraining,
    because few labelled images give poor statistics.

    The images of a batch are spread over the devices. If there are several processes,
    all of them must call this function with the same arguments.

    Args:
      apply: the function from `(variables, images)` to features, as `load_encoder`
        returns it.
      variables: the encoder's variables, with `params`; they are not changed.
      train: labelled images.
      test: labelled images.
      augment: section `augment` of the run's config; its crops, flips and other
        geometric operations are used, its colour operations are not.
      epochs: the number of epochs of each training run: one per learning rate, then
        the final one.
      progress: reports the steps of all training runs.

    Returns:
      The accuracies.
    """
    classes = int(train.labels.max()) + 1
    logits = partial(_logits, apply)
    step = _make_step(logits, _geometry(augment))
    start = _with_head(apply, variables, np.asarray(train.images[:1]), classes)
    fitting, held_out = hold_out_fifth(train)
    trials = len(LEARNING_RATES) if len(held_out.labels) else 0
    total = _length(train, epochs).steps
    total += trials * (_length(fitting, epochs).steps if trials else 0)
    with progress.phase("fine-tuning", total=total, unit="steps") as advance:

        def fit(split: Split, rates: Sequence[float]) -> Iterator[dict[str, Any]]:
            for rate in rates:
                yield _train(step, start, split, rate, epochs, advance)

        choice = choose_setting(
            LEARNING_RATES,
            fitting,
            held_out,
            fit=fit,
            classify=partial(_classify, logits),
        )
        (trained,) = fit(train, [choice.setting])
        predictions = _classify(logits, trained, test.images)
    return FineTuned(
        choice.setting,
        choice.accuracy,
        accuracy_of(predictions, test.labels),
        predictions,
    )


def _geometry(augment: ConfigDict) -> ViewSettings:
    views = view_settings(augment)
    none = {name: 0.0 for name in _COLOURS if name in views.config._fields}
    return views._replace(config=views.config._replace(**none))


def _with_head(apply: Apply, variables: dict, image: np.ndarray, classes: int) -> dict:
    """Adds a linear classifier, (features, classes) and bias, that starts at zero."""
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
    return (
        jnp.matmul(features, head["kernel"], precision="highest") + head["bias"][None]
    )


def _make_step(
    logits: Apply,
    augment: ViewSettings,
    *,
    devices: data_parallel.Devices = None,
) -> data_parallel.MappedStep:
    """Returns a step of SGD, which augments its batch, mapped over the devices.

    Its state is `(params, momentum)` and its shared arrays are `rest`, the other
    variables, `number` of the step, `rate` and the `count` of the batch's images.
    """

    def loss(params, batch, images, shared):
        predicted = logits({**shared["rest"], "params": params}, images)
        losses = optax.softmax_cross_entropy_with_integer_labels(
            predicted, batch["labels"]
        )
        if "counted" in batch:
            losses *= batch["counted"]
        return losses.sum() / shared["count"]

    def step(state, batch, shared):
        params, momentum = state
        key = jax.random.fold_in(jax.random.key(0), shared["number"])
        keys = jax.vmap(jax.random.fold_in, (None, 0))(key, batch["indices"])
        # The views stay in [0, 1]: `logits` normalises.
        channels = batch["images"].shape[-1]
        views = random_views(
            keys,
            batch["images"],
            views=augment,
            mean=(0.0,) * channels,
            std=(1.0,) * channels,
        )
        gradients = jax.grad(loss)(params, batch, views, shared)
        if axis_name := data_parallel.axis_name(devices):
            gradients = jax.lax.psum(gradients, axis_name)
        updates, momentum = _MOMENTUM.update(gradients, momentum)
        params = jax.tree.map(lambda p, u: p - shared["rate"] * u, params, updates)
        return (params, momentum), ()

    return data_parallel.MappedStep(step, devices=devices)


class _Length(NamedTuple):
    """Batch size, number of epochs and number of steps of a training run."""

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
    # Copied, because the step reuses the memory of its state.
    params = jax.tree.map(jnp.copy, start["params"])
    state = data_parallel.replicate((params, _MOMENTUM.init(params)))
    rest = data_parallel.replicate({k: v for k, v in start.items() if k != "params"})
    size, epochs, total = _length(split, epochs)
    schedule = warmup_cosine(
        peak=rate, warmup_steps=round(_WARMUP * total), total_steps=total
    )
    rates = np.asarray(schedule(np.arange(total)), np.float32)
    number = 0
    for epoch in range(epochs):
        batches = training_batches(
            split, batch_size=size, seed=0, epoch=epoch, with_images=False
        )
        for batch in batches:
            # Each process reads its own images.
            images = split.images[batch["indices"]]
            rows = data_parallel.split_rows({"images": images, **batch})
            shared = {
                "rest": rest,
                "number": np.int32(number),
                "rate": rates[number],
                "count": np.float32(size),
            }
            state = step(state, rows, shared).state
            number += 1
            advance(1)
    return {**rest, "params": state[0]}


def _classify(logits: Apply, variables: dict, images: ImageArray) -> np.ndarray:
    return extract_features(logits, variables, images).argmax(axis=1)
