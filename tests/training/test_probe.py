import jax
import jax.numpy as jnp
import numpy as np

from isojax import parallel
from isojax.training.probe import probe_loss

WEIGHTS = jax.random.normal(jax.random.key(0), (6, 3))
X = jax.random.normal(jax.random.key(1), (8, 5))
LABELS = jnp.array([0, -1, 2, 1, -1, -1, -1, 2])


def test_unlabelled_images_count_for_nothing():
    labelled = LABELS >= 0
    expected = probe_loss(WEIGHTS, X[labelled], LABELS[labelled])
    np.testing.assert_allclose(probe_loss(WEIGHTS, X, LABELS), expected, rtol=1e-6)
    gradient = jax.grad(lambda x: probe_loss(x, X, LABELS)[0])(WEIGHTS)
    alone = jax.grad(lambda x: probe_loss(x, X[labelled], LABELS[labelled])[0])(WEIGHTS)
    np.testing.assert_allclose(gradient, alone, rtol=1e-5, atol=1e-6)


def test_a_batch_without_labels_gives_zeros():
    result = probe_loss(WEIGHTS, X, jnp.full(8, -1))
    np.testing.assert_array_equal(result, 0.0)


def test_devices_with_unequal_labels_agree_with_one():
    over_devices = jax.vmap(
        lambda x, labels: probe_loss(WEIGHTS, x, labels, axis_name=parallel.AXIS),
        axis_name=parallel.AXIS,
    )
    spread = over_devices(X.reshape(4, 2, 5), LABELS.reshape(4, 2))
    np.testing.assert_allclose(
        np.mean(spread, axis=1), probe_loss(WEIGHTS, X, LABELS), rtol=1e-6
    )
