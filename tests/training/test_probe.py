import jax
import jax.numpy as jnp
import numpy as np
import pytest

from isojax.training.probe import probe_loss

REPRESENTATION = np.random.default_rng(0).normal(size=(8, 3)).astype(np.float32)
WEIGHTS = np.random.default_rng(1).normal(size=(4, 5)).astype(np.float32)
LABELS = np.array([0, -1, 4, -1, -1, 2, 1, -1], np.int32)


def test_images_without_a_label_do_not_count():
    labelled = LABELS >= 0
    loss, accuracy = probe_loss(WEIGHTS, REPRESENTATION, LABELS)
    expected = probe_loss(WEIGHTS, REPRESENTATION[labelled], LABELS[labelled])
    np.testing.assert_allclose((loss, accuracy), expected, rtol=1e-6)


def test_a_batch_without_labels_gives_zero_and_no_gradient():
    function = jax.value_and_grad(
        lambda w: probe_loss(w, REPRESENTATION, -LABELS - 9)[0]
    )
    loss, gradient = function(jnp.asarray(WEIGHTS))
    assert loss == 0
    np.testing.assert_array_equal(gradient, 0)


@pytest.mark.parametrize("labels", [LABELS, np.sort(LABELS)])
def test_devices_with_unequal_shares_of_labels_agree_with_one(labels):
    spread = jax.pmap(
        lambda x, y: jax.lax.pmean(probe_loss(WEIGHTS, x, y, axis_name="d"), "d"),
        axis_name="d",
    )(REPRESENTATION.reshape(4, 2, 3), labels.reshape(4, 2))
    expected = probe_loss(WEIGHTS, REPRESENTATION, labels)
    for value, one in zip(spread, expected, strict=True):
        np.testing.assert_allclose(value, one, rtol=1e-6)
