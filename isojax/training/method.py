"""Methods as combinations of metric, form, predictor, target and stop-gradient.

The dictionaries of this module map the names in a config to implementations. A config
can select a new entry without further code.
"""

from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import jax.numpy as jnp
from jax import Array

from isojax import losses
from isojax.errors import UsageError, choose
from isojax.models import LEARNED_PREDICTORS, SiameseNetwork
from isojax.predictor import LinearPredictor, direct_predictor


class Method(NamedTuple):
    """Settings of a method: section `method` of a config.

    Attributes:
      metric: a name in `STANDARD_LOSSES`.
      form: `STANDARD` or a name in `ISO_LOSSES`.
      predictor: a name in `PREDICTORS`.
      target: a name in `TARGETS`.
      target_decay: initial fraction of the old target kept at a step.
      stop_gradient: whether the gradient on the target is stopped.
      loss_scale: factor of the loss.
      correlation_decay: fraction of the old correlation kept at a step.
      alpha: exponent of the closed-form predictor's eigenvalues.
      epsilon: shift of the normalised eigenvalues.
      normalize: whether the eigenvalues are divided by the largest.
    """

    metric: str
    form: str
    predictor: str
    target: str
    target_decay: float
    stop_gradient: bool
    loss_scale: float
    correlation_decay: float
    alpha: float
    epsilon: float
    normalize: bool

    @property
    def has_moving_target(self) -> bool:
        """Whether the target is a moving average of the online network."""
        return choose("config.method.target", self.target, TARGETS)

    @property
    def learned_predictor(self) -> str | None:
        """The predictor's name if the predictor has parameters, else None."""
        return self.predictor if self.predictor in LEARNED_PREDICTORS else None


class Prediction(NamedTuple):
    """Predictions of one view.

    Attributes:
      prediction: p, shape (n, dim).
      root_prediction: r, computed with the square root of a closed-form predictor,
        shape (n, dim); equal to p for other predictors.
    """

    prediction: Array
    root_prediction: Array


class Predictions(NamedTuple):
    """Predictions of all views and the running statistics afterwards.

    Attributes:
      views: one `Prediction` per view.
      batch_stats: running statistics of the network.
    """

    views: list[Prediction]
    batch_stats: Any


def closed_form_predictor(method: Method, correlation: Array) -> LinearPredictor:
    """Computes the closed-form predictor of DirectPred; DirectCopy's with other values.

    Args:
      method: settings of the method.
      correlation: uncentred correlation of the projections, shape (dim, dim).

    Returns:
      W_P, its square root and its eigendecomposition.
    """
    return direct_predictor(
        correlation,
        alpha=method.alpha,
        epsilon=method.epsilon,
        normalize=method.normalize,
    )


CLOSED_FORM_PREDICTORS: dict[str, Callable[[Method, Array], LinearPredictor]] = {
    "directpred": closed_form_predictor
}


def closed_form_predictions(
    method: Method, correlation: Array, projections: list[Array]
) -> list[Prediction]:
    """Computes the predictions of a closed-form predictor.

    Args:
      method: settings of the method.
      correlation: uncentred correlation of the projections, shape (dim, dim).
      projections: one array (n, dim) per view.

    Returns:
      One `Prediction` per view.

    Raises:
      UsageError: if the method's predictor has no closed form.
    """
    build = choose("config.method.predictor", method.predictor, CLOSED_FORM_PREDICTORS)
    predictor = build(method, correlation)
    return [
        Prediction(
            jnp.matmul(z, predictor.matrix, precision="highest"),
            jnp.matmul(z, predictor.root, precision="highest"),
        )
        for z in projections
    ]


def _predict_in_closed_form(
    method: Method,
    network: SiameseNetwork,
    variables: Mapping[str, Any],
    correlation: Array,
    projections: list[Array],
) -> Predictions:
    del network
    return Predictions(
        closed_form_predictions(method, correlation, projections),
        variables["batch_stats"],
    )


def _predict_by_network(
    method: Method,
    network: SiameseNetwork,
    variables: Mapping[str, Any],
    correlation: Array,
    projections: list[Array],
) -> Predictions:
    del method, correlation
    views, batch_stats = [], variables["batch_stats"]
    for z in projections:
        prediction, mutated = network.apply(
            {"params": variables["params"], "batch_stats": batch_stats},
            z,
            train=True,
            method="predict",
            mutable=["batch_stats"],
        )
        batch_stats = mutated["batch_stats"]
        views.append(Prediction(prediction, prediction))
    return Predictions(views, batch_stats)


def _no_predictor(
    method: Method,
    network: SiameseNetwork,
    variables: Mapping[str, Any],
    correlation: Array,
    projections: list[Array],
) -> Predictions:
    del method, network, correlation
    return Predictions(
        [Prediction(z, z) for z in projections], variables["batch_stats"]
    )


Predict = Callable[
    [Method, SiameseNetwork, Mapping[str, Any], Array, list[Array]], Predictions
]
PREDICTORS: dict[str, Predict] = {
    **dict.fromkeys(CLOSED_FORM_PREDICTORS, _predict_in_closed_form),
    **dict.fromkeys(LEARNED_PREDICTORS, _predict_by_network),
    "none": _no_predictor,
}
# Whether the target is a moving average of the online network.
TARGETS = {"ema": True, "online": False}
STANDARD = "standard"
# Losses of predictions and targets by metric, for the form "standard".
STANDARD_LOSSES: dict[str, Callable[..., Array]] = {
    "euclidean": losses.euclidean_loss,
    "cosine": losses.cosine_loss,
}
# Losses of projection, prediction and target by form and metric. Their gradient does
# not pass through the predictor.
ISO_LOSSES: dict[str, dict[str, Callable[[Array, Prediction, Array], Array]]] = {
    "iso": {
        "euclidean": lambda z, p, target: losses.iso_euclidean_loss(
            z, p.prediction, target
        ),
        "cosine": lambda z, p, target: losses.iso_cosine_loss(
            z, p.prediction, p.root_prediction, target
        ),
    },
    "iso_product": {
        "euclidean": lambda z, p, target: losses.iso_euclidean_product_loss(
            z, p.prediction, target
        ),
    },
}
CHOICES: dict[str, Mapping[str, Any]] = {
    "metric": STANDARD_LOSSES,
    "form": {STANDARD: STANDARD_LOSSES, **ISO_LOSSES},
    "predictor": PREDICTORS,
    "target": TARGETS,
}


def view_loss(
    method: Method, projection: Array, prediction: Prediction, target: Array
) -> Array:
    """Computes the loss of one view with the other view's projection as target.

    Args:
      method: settings of the method.
      projection: z of the view, shape (n, dim).
      prediction: p and r of the view.
      target: projection of the other view, shape (n, dim).

    Returns:
      One loss per sample, shape (n,).

    Raises:
      UsageError: if there is no loss of the method's form and metric.
    """
    if method.form == STANDARD:
        loss = choose("config.method.metric", method.metric, STANDARD_LOSSES)
        p = prediction.prediction
        return loss(p, target, stop_gradient=method.stop_gradient)
    of_form = choose("config.method.form", method.form, ISO_LOSSES)
    iso_loss = choose("config.method.metric", method.metric, of_form)
    return iso_loss(projection, prediction, target)


def check_method(method: Method) -> None:
    """Checks that the choices of a method fit together.

    Args:
      method: settings of the method.

    Raises:
      UsageError: if a choice is unknown or does not fit another one. The message names
        the fields and the remedy.
    """
    if method.predictor == "directcopy":
        raise UsageError(
            "config.method.predictor=directcopy is directpred with other values: use "
            "the preset directcopy, or set config.method.predictor=directpred, "
            "alpha=1, epsilon=0.25 and normalize=True"
        )
    for field, choices in CHOICES.items():
        choose(f"config.method.{field}", getattr(method, field), choices)
    if method.form != STANDARD:
        _check_iso_form(method)
    if method.has_moving_target and not method.stop_gradient:
        raise UsageError(
            "config.method.stop_gradient=False has no effect with a moving-average "
            "target; set config.method.target=online"
        )


def _check_iso_form(method: Method) -> None:
    form = f"config.method.form={method.form}"
    metrics = ISO_LOSSES[method.form]
    if method.metric not in metrics:
        raise UsageError(
            f"{form} has no loss for config.method.metric={method.metric}, only for "
            f"{', '.join(metrics)}; set config.method.form={STANDARD} or "
            f"config.method.metric={next(iter(metrics))}"
        )
    if method.predictor not in CLOSED_FORM_PREDICTORS:
        raise UsageError(
            f"{form} needs a closed-form predictor, and "
            f"config.method.predictor={method.predictor} is not one; set "
            f"config.method.predictor={next(iter(CLOSED_FORM_PREDICTORS))}"
        )
    if not method.stop_gradient:
        raise UsageError(
            f"{form} is defined with stop-gradients; set "
            f"config.method.stop_gradient=True or config.method.form={STANDARD}"
        )
