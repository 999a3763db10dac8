import chex
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from isojax import parallel
from isojax.errors import UsageError
from isojax.training.microbatches import accumulate


@pytest.fixture
def run_in_parts(tiny_run):
    """`run_in_parts(parts)` gives the run whose step takes so many parts."""

    def make(parts):
        run = tiny_run(metric="euclidean", form="standard", predictor="directpred")
        run.config.microbatches = parts  # read when the step is traced
        return run

    return make


def half_twice(batch):
    """A batch whose two halves are the same images, with the same views."""
    return {name: np.concatenate([rows[:8]] * 2) for name, rows in batch.items()}


def test_equal_parts_give_the_gradient_and_statistics_of_one(run_in_parts, batch):
    """Where each part is what the whole is, parts change nothing but C's path."""
    batch = half_twice(batch)
    results = {}
    for parts in (1, 2):
        run = run_in_parts(parts)
        # A correlation that the step does not move.
        state, _ = jax.jit(run.step)(run.state, batch)
        for _ in range(2):
            state = run.state.replace(correlation=state.correlation)
            state, metrics = jax.jit(run.step)(state, batch)
        results[parts] = state, metrics
    (whole, whole_metrics), (parted, parted_metrics) = results[1], results[2]
    np.testing.assert_allclose(parted.correlation, whole.correlation, rtol=1e-5)
    for name in ("view_similarity", "std", "probe_loss", "probe_accuracy"):
        np.testing.assert_allclose(
            parted_metrics[name], whole_metrics[name], rtol=1e-5, err_msg=name
        )
    mean = whole.batch_stats["backbone"]["BatchNorm_0"]["mean"]
    # Two updates with one mean m, from 0: 0.1 m, then 0.9 · 0.1 m + 0.1 m.
    np.testing.assert_allclose(
        parted.batch_stats["backbone"]["BatchNorm_0"]["mean"] / mean,
        jnp.full_like(mean, (1 - 0.9**4) / (1 - 0.9**2)),
        rtol=1e-4,
    )


def test_the_loss_and_its_gradient_are_means_over_parts(tiny_run, batch):
    """Without a predictor parts meet in the optimiser alone."""
    run = tiny_run(metric="cosine", form="standard", predictor="none", target="online")
    run.config.optimizer.momentum = 0.0
    halves = [{name: rows[i : i + 8] for name, rows in batch.items()} for i in (0, 8)]
    # From the same state, the optimiser's first update is linear in the gradient.
    ends = [jax.jit(run.step)(run.state, half) for half in halves]
    run.config.microbatches = 2
    state, metrics = jax.jit(lambda s, b: run.step(s, b))(run.state, batch)
    expected = jax.tree.map(
        lambda a, b: (a + b) / 2, ends[0][0].params, ends[1][0].params
    )
    chex.assert_trees_all_close(state.params, expected, rtol=1e-4, atol=1e-6)
    np.testing.assert_allclose(
        metrics["loss"], (ends[0][1]["loss"] + ends[1][1]["loss"]) / 2, rtol=1e-5
    )


@pytest.mark.parametrize("parts", [1, 2, 3])
def test_parts_follow_each_other_and_their_rows_keep_their_order(make_state, parts):
    def gradient_of_part(state, part):
        stats = 2 * state.batch_stats + part.sum()
        correlation = 3 * state.correlation + part.sum()
        return part.sum(axis=0), stats, correlation, part, part.mean()

    state = make_state(0).replace(
        batch_stats=jnp.float32(1), correlation=jnp.float32(2)
    )
    batch = jnp.arange(12.0).reshape(6, 2)
    gradients, stats, correlation, rows, averaged = accumulate(
        gradient_of_part, state, batch, parts=parts
    )
    expected_stats, expected_correlation = 1, 2
    for part in np.split(batch, parts):
        expected_stats = 2 * expected_stats + part.sum()
        expected_correlation = 3 * expected_correlation + part.sum()
    np.testing.assert_array_equal(rows, batch)
    np.testing.assert_allclose(gradients, batch.sum(axis=0) / parts, rtol=1e-6)
    np.testing.assert_allclose(averaged, batch.mean(), rtol=1e-6)
    np.testing.assert_allclose(
        (stats, correlation), (expected_stats, expected_correlation)
    )


def test_a_batch_that_does_not_divide_is_refused():
    assert parallel.device_count() == 4
    with pytest.raises(UsageError, match=r"microbatches=3; set config.batch_size=60"):
        parallel.check_batch_size(64, parts=3)
