import re
from functools import partial

import chex
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from isojax import data_parallel, losses, predictor
from isojax.training.step import make_views, train_step

# Each part of the step that differs between devices is in one of the first three.
COMBINATIONS = [
    ("cosine", "standard", "mlp", "online"),
    ("euclidean", "iso", "directpred", "online"),
    ("cosine", "iso", "directpred", "ema"),
]
MORE_COMBINATIONS = [
    ("cosine", "standard", "directpred", "ema"),
    ("euclidean", "standard", "linear", "ema"),
    ("euclidean", "iso_product", "directpred", "ema"),
    ("cosine", "iso", "directpred", "online"),
]


def named(combination):
    return dict(
        zip(("metric", "form", "predictor", "target"), combination, strict=True)
    )


@pytest.mark.parametrize(
    "combination",
    [
        pytest.param(COMBINATIONS[0], id="-".join(COMBINATIONS[0])),
        *(
            pytest.param(c, id="-".join(c), marks=pytest.mark.long)
            for c in COMBINATIONS[1:]
        ),
        *(
            pytest.param(c, id="-".join(c), marks=pytest.mark.slow)
            for c in MORE_COMBINATIONS
        ),
    ],
)
def test_one_device_and_four_devices_make_the_same_step(
    tiny_run, spread_run, batch, combination
):
    batch["labels"][:5] = -1  # unequal numbers of labels on the devices
    alone, spread = tiny_run(**named(combination)), spread_run(**named(combination))
    step = jax.jit(alone.step)
    state, spread_state = alone.state, spread.state
    for _ in range(3):
        state, report = step(state, batch)
        spread_state, spread_report = spread.step(
            spread_state, data_parallel.split_batch(batch)
        )
    assert data_parallel.device_count() == 4
    assert set(report.metrics) == set(spread_report.metrics)
    for name, value in report.metrics.items():
        np.testing.assert_allclose(
            spread_report.metrics[name], value, rtol=1e-3, err_msg=name
        )
    assert report.not_finite == spread_report.not_finite == 0
    leaves = jax.tree.leaves_with_path(state.replace(key=None))
    spread_leaves = jax.tree.leaves(spread_state.replace(key=None))
    for (path, leaf), spread_leaf in zip(leaves, spread_leaves, strict=True):
        np.testing.assert_allclose(
            spread_leaf, leaf, rtol=1e-3, atol=1e-5, err_msg=jax.tree_util.keystr(path)
        )


def test_the_step_is_traced_once(tiny_run, batch):
    run = tiny_run()

    def train(state, batch):  # chex reads the source of what it counts
        return run.step(state, batch)

    step = jax.jit(chex.assert_max_traces(train, n=1))
    state = run.state
    for _ in range(3):
        state, _ = step(state, batch)
    assert state.step == 3


FORMULAS = [
    {"target": "ema", "target_decay": 0.9, "correlation_decay": 0.8},
    {
        "metric": "euclidean",
        "form": "standard",
        "predictor": "mlp",
        "target": "online",
        "stop_gradient": False,
        "loss_scale": 2.0,
    },
]


@pytest.mark.parametrize("fields", FORMULAS, ids=["isoloss_ema", "mlp_noema"])
def test_a_step_is_what_the_formulas_say(tiny_run, batch, fields):
    """New state and metrics of the fourth step, computed apart.

    By then the target differs from the network, and every part of the state is moving.
    """
    batch["labels"][3:6] = -1
    run = tiny_run(**fields)
    method, step, state = run.config.method, jax.jit(run.step), run.state
    for _ in range(3):
        state, _ = step(state, batch)
    state = with_probe_weights(state)
    new_state, report = step(state, batch)

    views = make_views(jax.random.fold_in(state.key, 3), batch, views=run.context.views)
    (loss, (batch_stats, z1, z2, representations)), gradient = jax.jit(
        jax.value_and_grad(partial(reference_loss, run), has_aux=True)
    )(state.params, state, views)
    cosine = (1 + np.cos(np.pi * 3 / run.total_steps)) / 2
    rate = 0.1 * cosine
    velocity = optax.tree.get(state.opt_state, "trace")
    params = jax.tree.map(
        lambda p, v, g: p - rate * (0.9 * v + g + 4e-4 * p),
        state.params,
        velocity,
        gradient,
    )
    has_target = method.target == "ema"
    tau = 1 - (1 - method.target_decay) * cosine if has_target else 0.0
    target_params = jax.tree.map(
        lambda old, new: tau * old + (1 - tau) * new,
        state.target_params,
        {part: params[part] for part in state.target_params},
    )
    assert set(new_state.target_params) == (
        {"backbone", "projector"} if has_target else set()
    )
    expected = {
        "params": params,
        "batch_stats": batch_stats,
        "target_params": target_params,
        "correlation": next_correlation(method, state, z1, z2),
    }
    chex.assert_trees_all_close(
        {name: getattr(new_state, name) for name in expected},
        expected,
        rtol=1e-4,
        atol=1e-6,
    )
    assert new_state.step == 4
    probe_loss, probe_accuracy, probe_gradient = reference_probe(
        np.asarray(state.probe.weights, np.float64),
        np.asarray(representations, np.float64),
        np.tile(batch["labels"], 2),
    )
    old_mean, new_mean = (
        optax.tree.get(s.probe.opt_state, "mu") for s in (state, new_state)
    )
    np.testing.assert_allclose(
        new_mean, 0.9 * old_mean + 0.1 * probe_gradient, rtol=1e-3, atol=1e-6
    )
    directions = np.concatenate(
        [z / jnp.linalg.norm(z, axis=1, keepdims=True) for z in (z1, z2)]
    )
    similarity = np.sum(directions[: len(z1)] * directions[len(z1) :], axis=1).mean()
    for name, value in {
        "loss": loss,
        "view_similarity": similarity,
        "std": directions.std(axis=0).mean(),
        "gradient_norm": optax.tree.norm(gradient),
        "learning_rate": rate,
        "target_decay": tau,
        "probe_loss": probe_loss,
        "probe_accuracy": probe_accuracy,
    }.items():
        np.testing.assert_allclose(report.metrics[name], value, rtol=1e-4, err_msg=name)
    assert report.not_finite == 0


def reference_loss(run, params, state, views):
    method = run.config.method

    def outputs(params, batch_stats, inputs, **options):
        both = []
        for x in inputs:
            output, mutated = run.network.apply(
                {"params": params, "batch_stats": batch_stats},
                x,
                train=True,
                mutable=["batch_stats"],
                **options,
            )
            batch_stats = mutated["batch_stats"]
            both.append(output)
        return both, batch_stats

    ((h1, z1), (h2, z2)), batch_stats = outputs(params, state.batch_stats, views)
    if method.predictor == "mlp":
        (p1, p2), batch_stats = outputs(params, batch_stats, (z1, z2), method="predict")
        distances = jnp.square(p1 - z2) + jnp.square(p2 - z1)
        loss = 2.0 * 0.5 * distances.sum(axis=1).mean()
    else:
        ((_, t1), (_, t2)), _ = outputs(state.target_params, state.batch_stats, views)
        # C first, so that this step's predictor sees this step's projections.
        correlation = next_correlation(method, state, z1, z2)
        w = predictor.direct_predictor(
            jax.lax.stop_gradient(correlation), normalize=True
        )
        loss = sum(
            losses.iso_cosine_loss(z, z @ w.matrix, z @ w.root, target).mean()
            for z, target in ((z1, t2), (z2, t1))
        )
    return loss, (batch_stats, z1, z2, jnp.concatenate([h1, h2]))


def reference_probe(weights, representations, labels):
    """Cross-entropy, accuracy and gradient of the probe, over the labelled images."""
    representations, labels = representations[labels >= 0], labels[labels >= 0]
    inputs = np.hstack([representations, np.ones((len(labels), 1))])
    odds = np.exp(inputs @ weights)
    probabilities = odds / odds.sum(axis=1, keepdims=True)
    loss = -np.log(probabilities[np.arange(len(labels)), labels]).mean()
    accuracy = np.mean(probabilities.argmax(axis=1) == labels)
    residual = probabilities - np.eye(weights.shape[1])[labels]
    return loss, accuracy, inputs.T @ residual / len(labels)


def next_correlation(method, state, z1, z2):
    now = (z1.T @ z1 + z2.T @ z2) / (len(z1) + len(z2))
    decay = method.correlation_decay
    return decay * state.correlation + (1 - decay) * now


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
        return run.step(
            data_parallel.replicate(state), data_parallel.split_batch(batch)
        )[0]

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
        state, report = step(state, batch)
        losses.append(report.metrics["probe_loss"])
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
        state, report = step(state, batch)
        velocity = 0.9 * velocity + 4e-4 * expected
        expected = expected - float(report.metrics["learning_rate"]) * velocity
    np.testing.assert_allclose(
        state.params["projector"]["hidden"]["bias"], expected, rtol=1e-6
    )


def test_views_follow_the_image_not_its_place(tiny_run, batch):
    pair = tiny_run().context.views
    key = jax.random.key(0)
    views = make_views(key, batch, views=pair)
    order = np.array([3, 1, 2, 0])
    shuffled = make_views(
        key, {name: array[order] for name, array in batch.items()}, views=pair
    )
    for view, part in zip(views, shuffled, strict=True):
        np.testing.assert_allclose(part, view[order], atol=1e-5)
    assert jnp.abs(views[0] - views[1]).mean() > 1e-2


def test_equal_images_of_different_indices_have_different_views(tiny_run, batch):
    pair = tiny_run().context.views
    twice = {"images": batch["images"][[0, 0]], "indices": np.arange(2)}
    for first, second in make_views(jax.random.key(0), twice, views=pair):
        assert jnp.abs(first - second).mean() > 1e-2


@pytest.mark.parametrize(
    ("target", "passes", "stacks_views"),
    # BatchNorm's statistics are combined once a layer, for each view or for both:
    # forward, backward, and forward in the target network. The others are the number of
    # labels, the correlation, gradients with metrics, and the two moments of the
    # projections.
    [
        ("ema", 3, False),
        pytest.param("online", 2, True, marks=pytest.mark.long),
    ],
)
def test_collectives_are_few(tiny_run, batch, target, passes, stacks_views):
    layers, views = 2, 1 if stacks_views else 2
    run = tiny_run(axis_name=data_parallel.AXIS, target=target)
    context = run.context._replace(stacks_views=stacks_views)
    mapped = jax.pmap(
        partial(train_step, context),
        axis_name=data_parallel.AXIS,
        in_axes=(None, 0),
        out_axes=None,
    )
    program = (
        mapped.lower(run.state, data_parallel.split_batch(batch)).compile().as_text()
    )
    names = re.findall(
        r" (all-\w+|reduce-scatter|collective-permute)(?:-start)?\(", program
    )
    assert 0 < len(names) <= layers * views * passes + 4
