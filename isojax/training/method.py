"""A method is a combination: metric, form, predictor, target, stop-gradient."""

from typing import NamedTuple

import jax.numpy as jnp
from jax import Array
from ml_collections import ConfigDict

from isojax import losses
from isojax.errors import UsageError
from isojax.predictor import LinearPredictor, direct_predictor

# By metric, for the form "standard"; a loss added here can be named in a config.
STANDARD_LOSSES = {
    "euclidean": losses.euclidean_loss,
    "cosine": losses.cosine_loss,
}
_ISO_METRICS = ("euclidean", "cosine")
CHOICES = {
    "metric": STANDARD_LOSSES,
    "form": ("standard", "iso", "iso_product"),
    "predictor": ("directpred", "linear", "mlp", "none"),
    "target": ("ema", "online"),
}
CLOSED_FORM = "directpred"


def check_method(method: ConfigDict) -> None:
    """Checks that the choices of a method fit together.

    Args:
      method: the config's section of that name.

    Raises:
      UsageError: with the reason and the remedy.
    """
    if method.predictor == "directcopy":
        raise UsageError(
            "config.method.predictor='directcopy' is directpred with other numbers; "
            "use the preset directcopy, or config.method.predictor=directpred with "
            "alpha=1, epsilon=0.25 and normalize=True"
        )
    for field, choices in CHOICES.items():
        if method[field] not in choices:
            raise UsageError(
                f"config.method.{field}={method[field]!r} is not one of "
                f"{', '.join(choices)}"
            )
    if method.form != "standard":
        if method.metric not in _ISO_METRICS:
            raise UsageError(
                f"config.method.form={method.form!r} is known for the metrics "
                f"{' and '.join(_ISO_METRICS)}; set config.method.form=standard"
            )
        if method.predictor != CLOSED_FORM:
            raise UsageError(
                f"config.method.form={method.form!r} stops the gradient through the "
                f"predictor, so it needs a closed-form one, not {method.predictor!r}; "
                f"set config.method.predictor={CLOSED_FORM}"
            )
        if not method.stop_gradient:
            raise UsageError(
                f"config.method.form={method.form!r} is defined by its stop-gradients; "
                "set config.method.stop_gradient=True or config.method.form=standard"
            )
    if method.form == "iso_product" and method.metric != "euclidean":
        raise UsageError(
            "config.method.form='iso_product' exists for the Euclidean metric only; "
            "set config.method.metric=euclidean or config.method.form=iso"
        )
    if method.target == "ema" and not method.stop_gradient:
        raise UsageError(
            "config.method.stop_gradient=False changes nothing when the target is a "
            "moving average; set config.method.target=online"
        )


class Prediction(NamedTuple):
    """Prediction p and, of a closed-form predictor, root prediction r: (n, dim)."""

    prediction: Array
    root_prediction: Array


def closed_form_predictor(method: ConfigDict, correlation: Array) -> LinearPredictor:
    """The closed-form predictor, DirectPred's; DirectCopy's with other numbers.

    Args:
      method: the config's section of that name.
      correlation: uncentred correlation of the projections, shape (dim, dim).

    Returns:
      W_P, its root and its eigendecomposition.
    """
    return direct_predictor(
        correlation,
        alpha=method.alpha,
        epsilon=method.epsilon,
        normalize=method.normalize,
    )


def closed_form_predictions(
    method: ConfigDict, correlation: Array, projections: list[Array]
) -> list[Prediction]:
    """Predictions of the closed-form predictor for each view.

    Args:
      method: the config's section of that name.
      correlation: uncentred correlation of the projections, shape (dim, dim).
      projections: one array (n, dim) a view.

    Returns:
      One `Prediction` a view.
    """
    predictor = closed_form_predictor(method, correlation)
    return [
        Prediction(
            jnp.matmul(z, predictor.matrix, precision="highest"),
            jnp.matmul(z, predictor.root, precision="highest"),
        )
        for z in projections
    ]


def view_loss(
    method: ConfigDict, projection: Array, prediction: Prediction, target: Array
) -> Array:
    """The method's loss of one view against the other's target, per sample.

    Args:
      method: the config's section of that name.
      projection: z of the view, shape (n, dim).
      prediction: p and r of the view.
      target: projection of the other view, shape (n, dim).

    Returns:
      Losses, shape (n,).
    """
    p, r = prediction
    if method.form == "iso" and method.metric == "cosine":
        return losses.iso_cosine_loss(projection, p, r, target)
    if method.form == "iso":
        return losses.iso_euclidean_loss(projection, p, target)
    if method.form == "iso_product":
        return losses.iso_euclidean_product_loss(projection, p, target)
    standard = STANDARD_LOSSES[method.metric]
    return standard(p, target, stop_gradient=method.stop_gradient)
