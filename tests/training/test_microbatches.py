from functools import partial

import chex
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from isojax import data_parallel
from isojax.errors import UsageError
from isojax.training.microbatches import PartResult, accumulate
from isojax.training.step import train_step


@pytest.fixture
def run_in_parts(tiny_run):
    """`run_in_parts(parts)` gives the run whose step takes so many parts."""

    def make(parts):
        return tiny_run(
            metric="euclidean",
            form="standard",
            predictor="directpred",
            microbatches=parts,
        )

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
            state, report = jax.jit(run.step)(state, batch)
        results[parts] = state, report.metrics
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


@pytest.mark.long
def test_the_loss_and_its_gradient_are_means_over_parts(tiny_run, batch):
    """Without a predictor parts meet in the optimiser alone."""
    run = tiny_run(metric="cosine", form="standard", predictor="none", target="online")
    halves = [{name: rows[i : i + 8] for name, rows in batch.items()} for i in (0, 8)]
    # From the same state, the optimiser's first update is linear in the gradient.
    ends = [jax.jit(run.step)(run.state, half) for half in halves]
    in_parts = partial(train_step, run.context._replace(microbatches=2))
    state, report = jax.jit(in_parts)(run.state, batch)
    expected = jax.tree.map(
        lambda a, b: (a + b) / 2, ends[0][0].params, ends[1][0].params
    )
    chex.assert_trees_all_close(state.params, expected, rtol=1e-4, atol=1e-6)
    losses = [end_report.metrics["loss"] for _, end_report in ends]
    np.testing.assert_allclose(report.metrics["loss"], np.mean(losses), rtol=1e-5)


@pytest.mark.parametrize("parts", [1, 2, 3])
def test_parts_follow_each_other_and_their_rows_keep_their_order(make_state, parts):
    def result_of_part(state, part):
        stats = 2 * state.batch_stats + part.sum()
        correlation = 3 * state.correlation + part.sum()
        return PartResult(part.sum(axis=0), part.mean(), stats, correlation, part)

    state = make_state(0).replace(
        batch_stats=jnp.float32(1), correlation=jnp.float32(2)
    )
    batch = jnp.arange(12.0).reshape(6, 2)
    result = accumulate(result_of_part, state, batch, parts=parts)
    expected_stats, expected_correlation = 1, 2
    for part in np.split(batch, parts):
        expected_stats = 2 * expected_stats + part.sum()
        expected_correlation = 3 * expected_correlation + part.sum()
    np.testing.assert_array_equal(result.rows, batch)
    np.testing.assert_allclose(result.gradients, batch.sum(axis=0) / parts, rtol=1e-6)
    np.testing.assert_allclose(result.averages, batch.mean(), rtol=1e-6)
    np.testing.assert_allclose(
        (result.batch_stats, result.correlation), (expected_stats, expected_correlation)
    )


def test_a_batch_that_does_not_divide_is_refused():
    assert data_parallel.device_count() == 4
    with pytest.raises(UsageError, match=r"microbatches=3; set config.batch_size=60"):
        data_parallel.check_batch_size(64, parts=3)
