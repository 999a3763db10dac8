import re

import chex
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from isojax import losses, parallel, predictor
from isojax.training.step import make_views

COMBINATIONS = [
    ("cosine", "standard", "directpred", "ema"),
    ("cosine", "standard", "mlp", "online"),
    ("euclidean", "standard", "linear", "ema"),
    ("euclidean", "iso", "directpred", "online"),
    ("euclidean", "iso_product", "directpred", "ema"),
    ("cosine", "iso", "directpred", "ema"),
    ("cosine", "iso", "directpred", "online"),
]


def named(combination):
    return dict(
        zip(("metric", "form", "predictor", "target"), combination, strict=True)
    )


@pytest.mark.parametrize("combination", COMBINATIONS, ids="-".join)
def test_one_device_and_four_devices_make_the_same_step(
    tiny_run, spread_run, batch, combination
):
    alone, spread = tiny_run(**named(combination)), spread_run(**named(combination))
    step = jax.jit(alone.step)
    state, spread_state = alone.state, spread.state
    for _ in range(3):
        state, metrics = step(state, batch)
        spread_state, spread_metrics = spread.step(
            spread_state, parallel.split_batch(batch)
        )
    assert parallel.device_count() == 4
    assert set(metrics) | {"wish"} == set(spread_metrics)
    for name, value in metrics.items():
        np.testing.assert_allclose(spread_metrics[name], value, rtol=1e-3, err_msg=name)
    leaves = jax.tree.leaves_with_path(state.replace(key=None))
    spread_leaves = jax.tree.leaves(spread_state.replace(key=None))
    for (path, leaf), spread_leaf in zip(leaves, spread_leaves, strict=True):
        np.testing.assert_allclose(
            spread_leaf, leaf, rtol=1e-3, atol=1e-5, err_msg=jax.tree_util.keystr(path)
        )


def test_the_step_is_traced_once(tiny_run, batch):
    run = tiny_run()
    step = jax.jit(chex.assert_max_traces(run.step, n=1))
    state = run.state
    for _ in range(3):
        state, _ = step(state, batch)
    assert state.step == 3


def test_the_first_step_is_what_the_formulas_say(tiny_run, batch):
    """Loss, correlation and predictor of the first step, computed apart."""
    run = tiny_run(metric="cosine", form="iso", target="online", correlation_decay=0.9)
    state = run.state
    views = make_views(jax.random.fold_in(state.key, 0), batch, config=run.config)
    z1, z2 = (
        run.network.apply(
            {"params": state.params, "batch_stats": state.batch_stats},
            images,
            train=True,
            mutable=["batch_stats"],
        )[0][1]
        for images in views
    )
    rows = np.concatenate([z1, z2]).astype(np.float64)
    correlation = 0.1 * rows.T @ rows / len(rows)
    new_state, metrics = jax.jit(run.step)(state, batch)
    np.testing.assert_allclose(new_state.correlation, correlation, rtol=1e-4, atol=1e-6)

    w = predictor.direct_predictor(jnp.asarray(correlation), normalize=True)
    loss = sum(
        losses.iso_cosine_loss(z, z @ w.matrix, z @ w.root, target).mean()
        for z, target in ((z1, z2), (z2, z1))
    )
    np.testing.assert_allclose(metrics["loss"], loss, rtol=1e-4)


def test_the_target_moves_after_the_optimiser_by_tau_of_the_step(tiny_run, batch):
    run = tiny_run(target="ema", target_decay=0.9)
    state = run.state
    new_state, metrics = jax.jit(run.step)(state, batch)
    np.testing.assert_allclose(metrics["target_decay"], 0.9, rtol=1e-6)
    assert set(new_state.target_params) == {"backbone", "projector"}
    for part in new_state.target_params:
        expected = jax.tree.map(
            lambda old, new: 0.9 * old + 0.1 * new,
            state.target_params[part],
            new_state.params[part],
        )
        chex.assert_trees_all_close(
            new_state.target_params[part], expected, rtol=1e-5, atol=1e-7
        )


def test_without_a_moving_average_nothing_is_kept_or_computed_for_the_target(
    tiny_run, batch
):
    def forward_products(target):
        run = tiny_run(target=target)
        text = str(jax.make_jaxpr(run.step)(run.state, batch))
        return text.count("dot_general")

    assert tiny_run(target="online").state.target_params == {}
    assert forward_products("online") < forward_products("ema")


VARIANTS = [
    {"target": "ema"},
    {"target": "online", "predictor": "mlp", "form": "standard"},
    {"microbatches": 2},
    {"precision": "bfloat16"},
    {"optimizer": "lars", "metric": "euclidean"},
]


def with_probe_weights(state):
    """A probe that has learned something: with weights of zero, as a run starts, its
    gradient on the representation would be zero anyway.
    """
    weights = jax.random.normal(jax.random.key(1), state.probe.weights.shape)
    return state.replace(probe=state.probe.replace(weights=weights))


@pytest.mark.parametrize("variant", VARIANTS, ids=str)
def test_labels_move_the_probe_and_nothing_else(tiny_run, batch, variant):
    run = tiny_run(**variant)
    step, state = jax.jit(run.step), with_probe_weights(run.state)
    check_that_labels_move_the_probe_alone(lambda b: step(state, b)[0], batch)


def test_labels_move_the_probe_and_nothing_else_on_several_devices(spread_run, batch):
    run = spread_run()

    def step(batch):
        # Copied, because the mapped step donates its state.
        state = jax.tree.map(jnp.copy, with_probe_weights(run.state))
        return run.step(parallel.replicate(state), parallel.split_batch(batch))[0]

    check_that_labels_move_the_probe_alone(step, batch)


def check_that_labels_move_the_probe_alone(step, batch):
    other_labels = batch | {"labels": (batch["labels"] + 1) % 3}
    state, other_state = step(batch), step(other_labels)
    # In Adam's moments, as its first step depends on the gradient's signs alone.
    is_equal = jax.tree.map(np.array_equal, state.probe, other_state.probe)
    assert not jax.tree.all(is_equal)
    chex.assert_trees_all_equal(
        *(jax.device_get(s.replace(probe=None, key=None)) for s in (state, other_state))
    )


def test_the_probe_learns(tiny_run, batch):
    run = tiny_run()
    step, state, losses = jax.jit(run.step), run.state, []
    for _ in range(31):
        state, metrics = step(state, batch)
        losses.append(metrics["probe_loss"])
    assert losses[-1] < losses[0]


def test_weight_decay_and_momentum_are_pytorch_s(tiny_run, batch):
    """A parameter without a gradient follows the closed recursion of PyTorch's SGD."""
    run = tiny_run()
    state = run.state
    # The bias under BatchNorm has no gradient.
    bias = state.params["projector"]["hidden"]["bias"] + 1.0
    state.params["projector"]["hidden"]["bias"] = bias
    step, expected, velocity = jax.jit(run.step), np.asarray(bias, np.float64), 0.0
    for _ in range(3):
        state, metrics = step(state, batch)
        velocity = 0.9 * velocity + 4e-4 * expected
        expected = expected - float(metrics["learning_rate"]) * velocity
    np.testing.assert_allclose(
        state.params["projector"]["hidden"]["bias"], expected, rtol=1e-6
    )


def test_views_follow_the_image_not_its_place(tiny_run, batch):
    config = tiny_run().config
    key = jax.random.key(0)
    views = make_views(key, batch, config=config)
    order = np.array([3, 1, 2, 0])
    shuffled = make_views(
        key, {name: array[order] for name, array in batch.items()}, config=config
    )
    for view, part in zip(views, shuffled, strict=True):
        np.testing.assert_allclose(part, view[order], atol=1e-5)
    assert jnp.abs(views[0] - views[1]).mean() > 1e-2


@pytest.mark.parametrize(
    ("target", "passes"),
    # BatchNorm's statistics are combined once a layer and view: forward, backward, and
    # forward in the target network. The others are the number of labels, the
    # correlation, gradients with metrics, and the two moments of the projections.
    [("ema", 3), ("online", 2)],
)
def test_collectives_are_few(tiny_run, batch, target, passes):
    layers, views = 2, 2
    run = tiny_run(axis_name=parallel.AXIS, target=target)
    mapped = jax.pmap(
        run.step, axis_name=parallel.AXIS, in_axes=(None, 0), out_axes=None
    )
    program = mapped.lower(run.state, parallel.split_batch(batch)).compile().as_text()
    names = re.findall(
        r" (all-\w+|reduce-scatter|collective-permute)(?:-start)?\(", program
    )
    assert 0 < len(names) <= layers * views * passes + 4
