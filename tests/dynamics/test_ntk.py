import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import linen as nn
from jax.flatten_util import ravel_pytree

from isojax import losses
from isojax.dynamics import velocities
from isojax.dynamics.ntk import empirical_ntk, ntk_velocity
from isojax.predictor import direct_predictor

DIM = 3


class Perceptron(nn.Module):
    # With one hidden layer only, the blocks of the kernel would be symmetric.
    @nn.compact
    def __call__(self, x):
        for width in (6, 5):
            x = nn.tanh(nn.Dense(width)(x))
        return nn.Dense(DIM)(x)


class Convolution(nn.Module):
    @nn.compact
    def __call__(self, x):
        x = nn.tanh(nn.Conv(4, (3, 3))(x))
        return nn.Dense(DIM)(x.mean((1, 2)))


NETWORKS = {
    "perceptron": (Perceptron(), (5,)),
    "convolution": (Convolution(), (4, 4, 2)),
}

all_networks = pytest.mark.parametrize("name", NETWORKS)
compiled_ntk = jax.jit(empirical_ntk, static_argnums=0)


def make_network(name, samples=5):
    """A network, its parameters in the tests' precision and two batches of inputs."""
    network, shape = NETWORKS[name]
    rng = np.random.default_rng(0)
    x1, x2 = rng.normal(size=(2, samples, *shape))
    shapes = jax.eval_shape(network.init, jax.random.key(0), x1)
    params = jax.tree.map(lambda p: rng.normal(size=p.shape) / 2, shapes)
    return network.apply, *jax.tree.map(jnp.asarray, (params, x1, x2))


def linear(weights, x):
    return x @ weights.T


def make_linear(inputs=4, seed=0):
    return jnp.asarray(np.random.default_rng(seed).normal(size=(DIM, inputs)) / 2)


def dense_jacobian(apply, params, x):
    """The Jacobian of all outputs on all parameters, (n, dim, parameters)."""
    flat, unflatten = ravel_pytree(params)
    return jax.jit(jax.jacrev(lambda flat: apply(unflatten(flat), x)))(flat)


@all_networks
def test_kernel_is_the_product_of_the_dense_jacobians(name, x64):
    apply, params, x1, x2 = make_network(name)
    j1, j2 = (dense_jacobian(apply, params, x) for x in (x1, x2[:2]))
    ntk = compiled_ntk(apply, params, x1, x2[:2])
    assert ntk.shape == (5, 2, DIM, DIM)
    np.testing.assert_allclose(
        ntk, np.einsum("iat,jbt->ijab", j1, j2), rtol=1e-12, atol=1e-13
    )


def test_kernel_is_symmetric_and_positive_semidefinite(x64):
    apply, params, x, _ = make_network("perceptron")
    ntk = np.asarray(compiled_ntk(apply, params, x, x))
    np.testing.assert_allclose(ntk, ntk.transpose(1, 0, 3, 2), rtol=1e-12, atol=1e-13)
    matrix = ntk.transpose(0, 2, 1, 3).reshape(5 * DIM, 5 * DIM)
    assert np.linalg.eigvalsh(matrix).min() > -1e-12


def test_kernel_holds_no_jacobian_in_memory():
    def apply(params, x):
        return linear(params[1], jnp.tanh(linear(params[0], x)))

    # The Jacobian of each batch would take 48 times the memory of the parameters.
    params, x = (jnp.ones((256, 256)), jnp.ones((DIM, 256))), jnp.ones((16, 256))
    memory = compiled_ntk.lower(apply, params, x, x).compile().memory_analysis()
    assert memory.temp_size_in_bytes < 4 * 4 * (256 + DIM) * 256


def test_kernel_agrees_under_jit_and_accepts_any_tree_of_parameters():
    def apply(params, x):
        return {"a": x @ params["w"][0].T + params["b"]}["a"]

    params = {"w": (make_linear().astype(jnp.float32),), "b": jnp.ones((1, DIM))}
    x = jnp.asarray(np.random.default_rng(1).normal(size=(2, 4)), jnp.float32)
    expected = (x @ x.T + 1)[:, :, None, None] * jnp.eye(DIM)[None, None]
    for ntk in (empirical_ntk, compiled_ntk):
        np.testing.assert_allclose(ntk(apply, params, x, x), expected, rtol=1e-5)
    low = jax.tree.map(lambda p: p.astype(jnp.bfloat16), (params, x))
    assert compiled_ntk(apply, *low, low[1]).dtype == jnp.bfloat16


# Lemma 3.
def test_linear_kernel_is_that_of_the_inputs_in_every_rotation_of_the_output(x64):
    rng = np.random.default_rng(1)
    x1, x2 = jnp.asarray(rng.normal(size=(6, 4))), jnp.asarray(rng.normal(size=(3, 4)))
    expected = np.einsum("ij,ab->ijab", x1 @ x2.T, np.eye(DIM))
    for u in (np.eye(DIM), np.linalg.qr(rng.normal(size=(DIM, DIM)))[0]):
        ntk = compiled_ntk(lambda w, x, u=u: x @ w.T @ u, make_linear(), x1, x2)
        np.testing.assert_allclose(ntk, expected, rtol=1e-12, atol=1e-13)


def test_nonlinear_kernel_rotates_with_the_output(x64):
    apply, params, x, _ = make_network("perceptron")
    u, _ = np.linalg.qr(np.random.default_rng(1).normal(size=(DIM, DIM)))
    ntk = compiled_ntk(apply, params, x, x)
    rotated = compiled_ntk(lambda params, x: apply(params, x) @ u, params, x, x)
    np.testing.assert_allclose(rotated, u.T @ ntk @ u, rtol=1e-11, atol=1e-13)
    assert jnp.abs(rotated - ntk).max() > 0.1


# Lemma 2.
@all_networks
def test_velocity_is_the_limit_of_small_gradient_steps(name, x64):
    apply, params, x, x2 = make_network(name)
    target = apply(params, x2)
    unseen = x2[:2]

    def loss(z):
        return losses.cosine_loss(z * jnp.array([[0.5, 1.0, 2.0]]), target).sum()

    gradients = jax.grad(lambda params: loss(apply(params, x)))(params)

    @jax.jit
    def moved_per_step(step):
        new = jax.tree.map(lambda p, g: p - 0.7 * step * g, params, gradients)
        return (apply(new, unseen) - apply(params, unseen)) / step

    predicted = ntk_velocity(
        compiled_ntk(apply, params, unseen, x),
        jax.grad(loss)(apply(params, x)),
        rate=0.7,
    )
    assert jnp.abs(predicted).max() > 0.01
    coarse, fine = (
        jnp.linalg.norm(moved_per_step(step) - predicted) for step in (2e-4, 1e-4)
    )
    assert coarse < 1e-2 * jnp.linalg.norm(predicted)
    np.testing.assert_allclose(coarse / fine, 2, rtol=0.01)


def test_velocity_equals_value_computed_by_hand():
    ntk = jnp.array([[[[1.0, 2.0], [3.0, 4.0]], [[0.0, 1.0], [1.0, 0.0]]]])
    g = jnp.array([[1.0, -1.0], [2.0, 5.0]])
    # -(K_11 g_1 + K_12 g_2) / 2 = -((-1, -1) + (5, 2)) / 2.
    np.testing.assert_allclose(ntk_velocity(ntk, g, rate=0.5), [[-2, -0.5]])


def orthogonal_inputs(samples, inputs):
    q, _ = np.linalg.qr(np.random.default_rng(2).normal(size=(inputs, samples)))
    return jnp.asarray(q.T)


THEOREMS = {
    "euclidean": lambda z, w, target: losses.euclidean_loss(z @ w, target),
    "cosine": lambda z, w, target: losses.cosine_loss(z @ w, target),
}


@functools.cache
def compiled_loss_gradient(metric):
    return jax.jit(jax.grad(lambda *args: THEOREMS[metric](*args).sum()))


# Theorems 1 and 2, eqs. 8 and 10, where the cluster size is 1.
@pytest.mark.parametrize("metric", THEOREMS)
@pytest.mark.parametrize("cluster_size", [1, 4])
def test_orthogonal_clusters_multiply_the_rate_by_their_size(metric, cluster_size, x64):
    x1, x2 = np.split(orthogonal_inputs(10, 12), 2)
    weights = make_linear(12)
    clusters = np.repeat(np.arange(5), [cluster_size, 1, cluster_size, 1, cluster_size])
    z1, z2 = linear(weights, x1[clusters]), linear(weights, x2[clusters])
    predictor = direct_predictor(weights @ weights.T)
    u, sizes = predictor.eigenvectors, np.bincount(clusters)[clusters][:, None]
    gradients = compiled_loss_gradient(metric)(z1, predictor.matrix, z2)
    ntk = compiled_ntk(linear, weights, x1[clusters], x1[clusters])
    velocity = getattr(velocities, metric)(z1 @ u, z2 @ u, predictor.eigenvalues)
    np.testing.assert_allclose(
        ntk_velocity(ntk, gradients) @ u, sizes * velocity, rtol=1e-10, atol=1e-13
    )


def test_clusters_follow_their_mean_gradient_if_targets_differ(x64):
    clusters = np.repeat(np.arange(2), [3, 2])
    x = orthogonal_inputs(2, 4)[clusters]
    z = linear(make_linear(), x)
    gradients = z - jnp.asarray(np.random.default_rng(3).normal(size=z.shape))
    velocity = ntk_velocity(compiled_ntk(linear, make_linear(), x, x), gradients)
    for cluster, size in ((0, 3), (1, 2)):
        mean = gradients[clusters == cluster].mean(0)
        for member in velocity[clusters == cluster]:
            np.testing.assert_allclose(member, -size * mean, rtol=1e-12)
    own = -np.array([3, 3, 3, 2, 2])[:, None] * gradients
    assert jnp.abs(velocity - own).max() > 0.1


# Eq. 21.
@pytest.mark.parametrize(
    "sizes",
    [
        [(8, 64), (8, 256), (8, 1024), (8, 4096)],
        [(4, 512), (16, 512), (64, 512), (128, 512)],
    ],
    ids=["more inputs", "more samples"],
)
def test_gaussian_inputs_decouple_samples_to_the_root_of_samples_over_inputs(sizes):
    rng = np.random.default_rng(4)
    errors = []
    for samples, inputs in sizes:
        squares = []
        for _ in range(8):
            x = rng.normal(size=(samples, inputs)) / inputs**0.5
            gradients = rng.normal(size=(samples, DIM))
            # The kernel of a linear network, as tested above.
            ntk = np.einsum("ij,ab->ijab", x @ x.T, np.eye(DIM))
            velocity = ntk_velocity(jnp.asarray(ntk), jnp.asarray(gradients))
            squares.append(np.mean((velocity + gradients) ** 2))
        errors.append(np.mean(squares) ** 0.5)
    ratios = np.divide(*np.transpose(sizes))
    slope = np.polyfit(np.log(ratios), np.log(errors), 1)[0]
    np.testing.assert_allclose(slope, 0.5, atol=0.1)


@pytest.mark.parametrize(
    ("shape1", "shape2", "named"),
    [
        ((3, 4), (3, 5), r"different shapes.*4.*5"),
        ((3, 4), (4,), r"different rank: \[2, 1\]"),
    ],
)
def test_inputs_of_differing_shapes_are_refused(shape1, shape2, named):
    with pytest.raises(AssertionError, match=named):
        empirical_ntk(linear, jnp.ones((DIM, 4)), jnp.ones(shape1), jnp.ones(shape2))


@pytest.mark.parametrize(
    ("apply", "named"),
    [
        (lambda w, x: linear(w, x)[:, 0], r"\(2,\) but expected \(2, None\)"),
        (lambda w, x: linear(w, x).sum(), r"\(\) but expected \(2, None\)"),
        (lambda w, x: linear(w, x)[:1], r"\(1, 3\) but expected \(2, None\)"),
        (lambda w, x: linear(w, x)[:, :, None], r"\(2, 3, 1\) but expected"),
    ],
)
def test_outputs_that_are_not_one_vector_a_sample_are_refused(apply, named):
    x = jnp.ones((2, 4))
    with pytest.raises(AssertionError, match=named):
        empirical_ntk(apply, jnp.ones((DIM, 4)), x, x)


@pytest.mark.parametrize(
    ("ntk", "gradients", "named"),
    [
        ((3, 2, 4, 4), (3, 4), r"\(3, 2, 4, 4\).*\(None, 3, 4, 4\)"),
        ((3, 2, 4, 4), (2, 3), r"\(3, 2, 4, 4\).*\(None, 2, 3, 3\)"),
        ((3, 2, 4, 4), (2,), "rank"),
        ((2, 4, 4), (2, 4), "rank"),
    ],
)
def test_gradients_that_do_not_fit_the_kernel_are_refused(ntk, gradients, named):
    with pytest.raises(AssertionError, match=named):
        ntk_velocity(jnp.ones(ntk), jnp.ones(gradients))
