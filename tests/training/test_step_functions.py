"""The functions that a training step consists of, each alone."""

from functools import partial

import chex
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from isojax.training.objective import (
    apply_in_training,
    compute_loss,
    forward_in_turn,
    forward_stacked,
)
from isojax.training.step import Gradients, apply_update, target_decay


@pytest.fixture
def views(batch):
    rng = np.random.default_rng(1)
    shape = (2, *batch["images"].shape)
    return [jnp.asarray(view) for view in rng.normal(size=shape).astype(np.float32)]


@pytest.mark.parametrize("forward", [forward_in_turn, forward_stacked])
def test_each_view_has_its_own_batch_statistics(tiny_run, views, forward):
    run = tiny_run()
    params, stats = run.state.params, run.state.batch_stats
    apply = partial(apply_in_training, run.network)
    outputs = jax.jit(partial(forward, apply))(params, stats, views)
    for i, images in enumerate(views):
        (representation, projection), mutated = run.network.apply(
            {"params": params, "batch_stats": stats},
            images,
            train=True,
            mutable=["batch_stats"],
        )
        stats = mutated["batch_stats"]
        np.testing.assert_allclose(
            outputs.representations[i], representation, rtol=1e-4, atol=1e-5
        )
        np.testing.assert_allclose(
            outputs.projections[i], projection, rtol=1e-4, atol=1e-4
        )
    chex.assert_trees_all_close(outputs.batch_stats, stats, rtol=1e-4, atol=1e-6)


def test_both_views_at_once_have_the_gradients_of_views_in_turn(tiny_run, batch, views):
    run = tiny_run(target="ema")

    def gradients(*, stacks_views):
        loss = partial(
            compute_loss,
            context=run.context._replace(stacks_views=stacks_views),
            state=run.state,
            views=views,
            labels=batch["labels"],
            labelled=jnp.float32(2 * len(batch["labels"])),
        )
        gradient = jax.jit(jax.grad(loss, has_aux=True))
        return gradient(run.state.params, run.state.probe.weights)

    chex.assert_trees_all_close(
        gradients(stacks_views=True),
        gradients(stacks_views=False),
        rtol=1e-3,
        atol=1e-5,
    )


def test_the_loss_does_not_depend_on_the_order_of_the_views(tiny_run, batch, views):
    run = tiny_run(predictor="mlp", form="standard")
    loss = jax.jit(
        lambda views: compute_loss(
            run.state.params,
            run.state.probe.weights,
            context=run.context,
            state=run.state,
            views=views,
            labels=batch["labels"],
            labelled=jnp.float32(2 * len(batch["labels"])),
        )
    )
    (one, details), (other, swapped) = loss(views), loss(views[::-1])
    np.testing.assert_allclose(one, other, rtol=1e-5)
    np.testing.assert_allclose(details.correlation, swapped.correlation, rtol=1e-4)
    first, second = np.split(details.projections, 2)
    np.testing.assert_allclose(
        swapped.projections, np.concatenate([second, first]), rtol=1e-4, atol=1e-5
    )
    # The loss is that of the method plus that of the probe, log(3) at its start.
    metrics = details.averages.metrics
    np.testing.assert_allclose(metrics["probe_loss"], np.log(3), rtol=1e-5)
    np.testing.assert_allclose(one, metrics["loss"] + metrics["probe_loss"], rtol=1e-5)


@pytest.mark.parametrize("target", ["ema", "online"])
def test_an_update_moves_parameters_first_and_then_the_target(tiny_run, target):
    run = tiny_run(target=target)
    state = run.state.replace(step=jnp.int32(10))
    gradients = Gradients(
        jax.tree.map(jnp.ones_like, state.params), jnp.ones_like(state.probe.weights)
    )
    update = jax.jit(partial(apply_update, run.context))(state, gradients)
    new = update.state
    change = jax.tree.map(jnp.subtract, new.params, state.params)
    np.testing.assert_allclose(update.norm, optax.tree.norm(change), rtol=1e-4)
    assert update.norm > 0
    assert new.step == 11
    assert (new.probe.weights != state.probe.weights).all()
    chex.assert_trees_all_equal(
        (new.batch_stats, new.correlation), (state.batch_stats, state.correlation)
    )
    tau = target_decay(run.context, state.step)
    if target == "online":
        assert new.target_params == {} and tau == 0
        return
    assert 0 < tau < 1
    chex.assert_trees_all_close(
        new.target_params,
        {
            part: jax.tree.map(
                lambda old, params: tau * old + (1 - tau) * params,
                state.target_params[part],
                new.params[part],
            )
            for part in ("backbone", "projector")
        },
        rtol=1e-5,
        atol=1e-7,
    )
