import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from isojax.training.probe import count_labelled, init_probe, probe_loss, update_probe

REPRESENTATION = np.random.default_rng(0).normal(size=(8, 3)).astype(np.float32)
WEIGHTS = np.random.default_rng(1).normal(size=(4, 5)).astype(np.float32)
LABELS = np.array([0, -1, 4, -1, -1, 2, 1, -1], np.int32)


def mean_loss(weights, representation, labels, *, parts=1, axis_name=None):
    count = count_labelled(labels, parts=parts, axis_name=axis_name)
    return probe_loss(weights, representation, labels, count=count)


def test_loss_and_accuracy_equal_values_computed_by_hand():
    inputs = np.hstack([REPRESENTATION, np.ones((8, 1))])  # the bias comes last
    logits = inputs @ WEIGHTS.astype(np.float64)
    log_sums = np.log(np.exp(logits).sum(axis=1))
    (images,) = np.nonzero(LABELS >= 0)
    losses = (log_sums - logits[np.arange(8), LABELS])[images]
    hits = (logits.argmax(axis=1) == LABELS)[images]
    assert 0 < hits.mean() < 1 and 0 in LABELS
    loss, accuracy = mean_loss(WEIGHTS, REPRESENTATION, LABELS)
    np.testing.assert_allclose(loss, losses.mean(), rtol=1e-5)
    np.testing.assert_allclose(accuracy, hits.mean(), rtol=1e-6)


def test_images_without_a_label_do_not_count():
    labelled = LABELS >= 0
    loss, accuracy = mean_loss(WEIGHTS, REPRESENTATION, LABELS)
    expected = mean_loss(WEIGHTS, REPRESENTATION[labelled], LABELS[labelled])
    np.testing.assert_allclose((loss, accuracy), expected, rtol=1e-6)


def test_a_batch_without_labels_gives_zero_and_no_gradient():
    function = jax.value_and_grad(
        lambda w: mean_loss(w, REPRESENTATION, jnp.asarray(-LABELS - 9)), has_aux=True
    )
    (loss, accuracy), gradient = function(jnp.asarray(WEIGHTS))
    assert loss == 0 and accuracy == 0
    np.testing.assert_array_equal(gradient, 0)


@pytest.mark.parametrize("labels", [LABELS, np.sort(LABELS)])
def test_devices_with_unequal_shares_of_labels_agree_with_one(labels):
    spread = jax.pmap(
        lambda x, y: jax.lax.pmean(mean_loss(WEIGHTS, x, y, axis_name="d"), "d"),
        axis_name="d",
    )(REPRESENTATION.reshape(4, 2, 3), labels.reshape(4, 2))
    expected = mean_loss(WEIGHTS, REPRESENTATION, labels)
    for value, one in zip(spread, expected, strict=True):
        np.testing.assert_allclose(value, one, rtol=1e-6)


def test_parts_with_unequal_shares_of_labels_agree_with_the_whole():
    labels = np.sort(LABELS)  # the first half has none
    count = count_labelled(labels, parts=2, axis_name=None)
    parts = [
        probe_loss(WEIGHTS, REPRESENTATION[half], labels[half], count=count)
        for half in (slice(4), slice(4, 8))
    ]
    expected = mean_loss(WEIGHTS, REPRESENTATION, labels)
    np.testing.assert_allclose(np.mean(parts, axis=0), expected, rtol=1e-6)


def test_no_gradient_reaches_the_representation():
    gradient = jax.grad(lambda x: mean_loss(WEIGHTS, x, LABELS)[0])(REPRESENTATION)
    np.testing.assert_array_equal(gradient, 0)


def test_updates_are_those_of_adam_with_its_moments():
    probe, optimizer = init_probe(3, 5), optax.adam(1e-3)
    weights, state = probe.weights, optimizer.init(probe.weights)
    for gradient in (WEIGHTS, -WEIGHTS, WEIGHTS**2):
        probe = update_probe(probe, gradient)
        updates, state = optimizer.update(gradient, state)
        weights = optax.apply_updates(weights, updates)
    np.testing.assert_allclose(probe.weights, weights, rtol=1e-5)
