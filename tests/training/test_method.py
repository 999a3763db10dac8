import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from isojax import losses
from isojax.configs import digits
from isojax.errors import UsageError
from isojax.training.method import (
    CHOICES,
    STANDARD_LOSSES,
    Prediction,
    check_method,
    closed_form_predictions,
    closed_form_predictor,
    view_loss,
)
from isojax.training.settings import method_settings


def method(preset="isoloss", **changes):
    return method_settings(digits.get_config(preset))._replace(**changes)


def is_accepted(**changes):
    try:
        check_method(method(**changes))
    except UsageError as error:
        assert "config.method." in str(error)
        return False
    return True


@pytest.mark.parametrize(
    "combination",
    list(itertools.product(*CHOICES.values(), (True, False))),
    ids=lambda combination: "-".join(map(str, combination)),
)
def test_exactly_the_sensible_combinations_are_accepted(combination):
    metric, form, predictor, target, stop_gradient = combination
    iso = form != "standard"
    sensible = (
        not (iso and predictor != "directpred")
        and not (iso and not stop_gradient)
        and not (form == "iso_product" and metric == "cosine")
        and not (target == "ema" and not stop_gradient)
    )
    assert (
        is_accepted(
            metric=metric,
            form=form,
            predictor=predictor,
            target=target,
            stop_gradient=stop_gradient,
        )
        == sensible
    )


def test_a_loss_of_ones_own_has_no_iso_form(monkeypatch):
    monkeypatch.setitem(STANDARD_LOSSES, "own", STANDARD_LOSSES["cosine"])
    assert is_accepted(metric="own", form="standard")
    assert not is_accepted(metric="own", form="iso")


def test_an_unknown_choice_is_refused_with_the_known_ones():
    with pytest.raises(UsageError, match="metric=l2: .* euclidean, cosine"):
        check_method(method(metric="l2"))


def test_directcopy_is_directpred_with_the_numbers_of_its_preset():
    with pytest.raises(UsageError, match="predictor=directcopy .* preset directcopy"):
        check_method(method(predictor="directcopy"))
    correlation = jnp.diag(jnp.array([1.0, 2.0, 4.0]))
    matrix = closed_form_predictor(method("directcopy"), correlation).matrix
    np.testing.assert_allclose(
        matrix, jnp.diag(jnp.array([0.5, 0.75, 1.25])), atol=1e-6
    )


@pytest.mark.parametrize(
    ("field", "value", "expected"),
    [
        ("alpha", 2.0, [0.25, 0.5625, 1.5625]),
        ("epsilon", 0.75, [1.0, 1.25, 1.75]),
        ("normalize", False, [1.0, 2.0, 4.0]),
    ],
)
def test_every_number_of_directcopy_is_used(field, value, expected):
    changed = method("directcopy", **{field: value})
    correlation = jnp.diag(jnp.array([1.0, 2.0, 4.0]))
    matrix = closed_form_predictor(changed, correlation).matrix
    np.testing.assert_allclose(jnp.diag(matrix), expected, atol=1e-5)


P, R, TARGET, Z = np.random.default_rng(0).normal(size=(4, 5, 3)).astype(np.float32)
LOSSES = {
    ("euclidean", "standard"): lambda: losses.euclidean_loss(P, TARGET),
    ("cosine", "standard"): lambda: losses.cosine_loss(P, TARGET),
    ("euclidean", "iso"): lambda: losses.iso_euclidean_loss(Z, P, TARGET),
    ("cosine", "iso"): lambda: losses.iso_cosine_loss(Z, P, R, TARGET),
    ("euclidean", "iso_product"): lambda: losses.iso_euclidean_product_loss(
        Z, P, TARGET
    ),
}


@pytest.mark.parametrize(("metric", "form"), LOSSES)
def test_each_metric_and_form_is_its_loss(metric, form):
    found = view_loss(method(metric=metric, form=form), Z, Prediction(P, R), TARGET)
    np.testing.assert_array_equal(found, LOSSES[metric, form]())


@pytest.mark.parametrize("metric", ["euclidean", "cosine"])
@pytest.mark.parametrize("stop_gradient", [True, False])
def test_the_target_has_a_gradient_only_without_stop_gradient(metric, stop_gradient):
    settings = method(metric=metric, form="standard", stop_gradient=stop_gradient)
    gradient = jax.grad(lambda t: view_loss(settings, Z, Prediction(P, P), t).sum())
    assert (jnp.abs(gradient(TARGET)).max() == 0) == stop_gradient


def test_predictions_are_of_the_predictor_and_root_predictions_of_its_root():
    correlation = Z.T @ Z / len(Z)
    settings = method(alpha=0.7, normalize=True, epsilon=0.1)
    predictor = closed_form_predictor(settings, correlation)
    (first, second) = closed_form_predictions(settings, correlation, [Z, P])
    for z, (prediction, root_prediction) in ((Z, first), (P, second)):
        np.testing.assert_allclose(prediction, z @ predictor.matrix, rtol=1e-5)
        np.testing.assert_allclose(root_prediction, z @ predictor.root, rtol=1e-5)
        np.testing.assert_allclose(
            root_prediction @ predictor.root, prediction, rtol=1e-4, atol=1e-5
        )
