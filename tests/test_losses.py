import functools
import itertools

import chex
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from jax.test_util import check_grads

from isojax import losses

SAMPLES, DIM = 24, 5
SPECTRA = {
    "distinct": [0.1, 0.4, 0.7, 1.3, 2.0],
    "repeated": [0.5, 0.5, 0.5, 1.5, 1.5],
    "singular": [0.0, 0.0, 0.3, 0.8, 1.7],
}
# Each loss as a function of the two projections and the matrices W_P and W_P^{1/2}.
LOSSES = {
    "euclidean": lambda z1, z2, w, root: losses.euclidean_loss(z1 @ w, z2),
    "cosine": lambda z1, z2, w, root: losses.cosine_loss(z1 @ w, z2),
    "iso_euclidean": lambda z1, z2, w, root: losses.iso_euclidean_loss(z1, z1 @ w, z2),
    "iso_euclidean_product": lambda z1, z2, w, root: losses.iso_euclidean_product_loss(
        z1, z1 @ w, z2
    ),
    "iso_cosine": lambda z1, z2, w, root: losses.iso_cosine_loss(
        z1, z1 @ w, z1 @ root, z2
    ),
}
ISO_OF = [
    ("euclidean", "iso_euclidean"),
    ("euclidean", "iso_euclidean_product"),
    ("cosine", "iso_cosine"),
]
ARGUMENTS = {
    losses.euclidean_loss: 2,
    losses.cosine_loss: 2,
    losses.iso_euclidean_loss: 3,
    losses.iso_euclidean_product_loss: 3,
    losses.iso_cosine_loss: 4,
}

all_losses = pytest.mark.parametrize("name", LOSSES)
all_functions = pytest.mark.parametrize("loss", ARGUMENTS, ids=lambda f: f.__name__)
all_spectra = pytest.mark.parametrize("spectrum", SPECTRA)


def make_case(spectrum="distinct"):
    """Projections of two views and a predictor: z1, z2, W_P, its root, lam and U."""
    rng = np.random.default_rng(0)
    z1, z2 = rng.normal(size=(2, SAMPLES, DIM))
    u, _ = np.linalg.qr(rng.normal(size=(DIM, DIM)))
    lam = np.array(SPECTRA[spectrum])
    root = (u * np.sqrt(lam)) @ u.T
    return [jnp.asarray(x) for x in (z1, z2, (u * lam) @ u.T, root, lam, u)]


@functools.cache
def compiled_loss(name):
    return jax.jit(LOSSES[name])


@functools.cache
def compiled_gradient(name, argument):
    return jax.jit(jax.grad(lambda *args: LOSSES[name](*args).sum(), argument))


def gradient(name, *case, argument=0):
    return compiled_gradient(name, argument)(*case)


# p = (6, 8), z2 = (4, 3), z1 = (3, 4), r = (1, 7): |p| = 10, |z2| = 5, p.z2 = 48.
@pytest.mark.parametrize(
    ("loss", "expected"),
    [
        (losses.euclidean_loss, (2**2 + 5**2) / 2),
        (losses.cosine_loss, -48 / 50),
        (losses.iso_euclidean_loss, (2**2 + 5**2) / 2),
        (losses.iso_euclidean_product_loss, 2 * -1 + 5 * 1),
        (losses.iso_cosine_loss, -24 / 50 + 48 / 5000 / 2 * 50),
    ],
)
def test_loss_equals_value_computed_by_hand(loss, expected):
    z1, p, r, z2 = map(jnp.array, ([3.0, 4.0], [6.0, 8.0], [1.0, 7.0], [4.0, 3.0]))
    args = {2: (p, z2), 3: (z1, p, z2), 4: (z1, p, r, z2)}[ARGUMENTS[loss]]
    np.testing.assert_allclose(loss(*args), expected, rtol=1e-6)


def test_cosine_loss_is_minus_optax_similarity(x64):
    z1, z2, *_ = make_case()
    similarity = jax.jit(optax.cosine_similarity)(z1, z2)
    np.testing.assert_allclose(losses.cosine_loss(z1, z2), -similarity, atol=1e-15)


@all_losses
def test_loss_is_per_sample_under_jit_vmap_and_more_axes(name):
    z1, z2, w, root, *_ = make_case()
    eager = LOSSES[name](z1, z2, w, root)
    assert eager.shape == (SAMPLES,)
    jitted = compiled_loss(name)(z1, z2, w, root)
    per_sample = jax.vmap(LOSSES[name], in_axes=(0, 0, None, None))
    mapped = jax.jit(per_sample)(z1, z2, w, root)
    z1, z2 = (z.reshape(4, 6, DIM) for z in (z1, z2))
    stacked = compiled_loss(name)(z1, z2, w, root)
    assert stacked.shape == (4, 6)
    for other in (jitted, mapped, stacked.ravel()):
        np.testing.assert_allclose(other, eager, rtol=1e-5, atol=1e-6)


@all_functions
def test_differing_shapes_and_integers_are_refused(loss):
    for odd in range(ARGUMENTS[loss]):
        args = [jnp.ones((3, 4))] * ARGUMENTS[loss]
        args[odd] = jnp.ones((1, 4))
        with pytest.raises(AssertionError, match=r"shapes.*\(3, 4\)") as error:
            loss(*args)
        assert "(1, 4)" in str(error.value)
        args[odd] = jnp.ones((3, 4), jnp.int32)
        with pytest.raises(AssertionError, match="int32"):
            loss(*args)


def frozen_loss(name, z1, z2, w, root):
    """The loss as a function of z1 alone, every stopped quantity already a number."""
    p = z1 @ w
    p_norm, z2_norm = (jnp.linalg.norm(x, axis=-1, keepdims=True) for x in (p, z2))
    cosine = (p * z2).sum(-1, keepdims=True) / (p_norm * z2_norm)
    offset, error = z2 + z1 - p, p - z2
    return {
        "euclidean": lambda z: 0.5 * ((z @ w - z2) ** 2).sum(),
        "cosine": lambda z: (
            -((z @ w) * z2 / z2_norm / jnp.linalg.norm(z @ w, axis=-1, keepdims=True))
        ).sum(),
        "iso_euclidean": lambda z: 0.5 * ((z - offset) ** 2).sum(),
        "iso_euclidean_product": lambda z: (error * (z - z2)).sum(),
        "iso_cosine": lambda z: (
            -z * z2 / (p_norm * z2_norm) + cosine / p_norm**2 * (z @ root) ** 2 / 2
        ).sum(),
    }[name]


@all_losses
def test_gradient_is_that_of_the_frozen_function(name, x64):
    z1, z2, w, root, *_ = make_case()
    frozen = jax.jit(frozen_loss(name, z1, z2, w, root))
    check_grads(frozen, (z1,), order=1, modes="rev", atol=1e-7, rtol=1e-7)
    value = compiled_loss(name)(z1, z2, w, root).sum()
    np.testing.assert_allclose(value, frozen(z1), rtol=1e-13)
    np.testing.assert_allclose(
        gradient(name, z1, z2, w, root), jax.grad(frozen)(z1), rtol=1e-11, atol=1e-13
    )


def analytic_gradient(name, z1, z2, lam):
    """The gradients on z1 in the predictor's eigenbasis, as sums over the modes."""
    samples = []
    for a, b in np.stack([z1, z2], axis=1):
        scale = np.linalg.norm(lam * a) ** 3 * np.linalg.norm(b)
        sums = [
            sum(
                lam[k] * (lam[k] * a[k] ** 2 * b[m] - lam[m] * a[k] * b[k] * a[m])
                for k in range(DIM)
                if k != m
            )
            for m in range(DIM)
        ]
        iso = -np.array(sums) / scale if "cosine" in name else lam * a - b
        samples.append(iso if name.startswith("iso") else lam * iso)
    return np.array(samples)


@all_losses
@all_spectra
def test_gradient_equals_theorems_in_the_eigenbasis(name, spectrum, x64):
    z1, z2, w, root, lam, u = make_case(spectrum)
    np.testing.assert_allclose(
        gradient(name, z1, z2, w, root) @ u,
        analytic_gradient(name, np.array(z1 @ u), np.array(z2 @ u), np.array(lam)),
        rtol=1e-11,
        atol=1e-12,
    )


@pytest.mark.parametrize(("name", "iso_name"), ISO_OF)
@all_spectra
def test_gradient_is_predictor_times_iso_gradient(name, iso_name, spectrum, x64):
    z1, z2, w, root, *_ = make_case(spectrum)
    iso = gradient(iso_name, z1, z2, w, root)
    np.testing.assert_allclose(
        gradient(name, z1, z2, w, root), iso @ w, rtol=1e-11, atol=1e-12
    )


@all_losses
@all_spectra
def test_value_is_the_same_in_the_eigenbasis(name, spectrum, x64):
    z1, z2, w, root, lam, u = make_case(spectrum)
    original = compiled_loss(name)(z1, z2, w, root)
    d, root_d = np.diag(lam), np.diag(np.sqrt(lam))
    rotated = compiled_loss(name)(z1 @ u, z2 @ u, d, root_d)
    np.testing.assert_allclose(original, rotated, rtol=1e-12, atol=1e-12)


def test_iso_euclidean_value_keeps_a_small_error_beside_large_projections():
    z, p, z2 = jnp.full(4, 1e8), jnp.full(4, 1.0), jnp.full(4, 0.5)
    assert losses.iso_euclidean_loss(z, p, z2) == losses.euclidean_loss(p, z2) == 0.5


@all_losses
def test_target_gets_no_gradient_because_it_is_stopped(name, monkeypatch):
    case = make_case()[:4]
    np.testing.assert_array_equal(gradient(name, *case, argument=1), 0)
    monkeypatch.setattr(jax.lax, "stop_gradient", lambda x: x)
    unstopped = compiled_gradient.__wrapped__(name, 1)
    assert jnp.abs(unstopped(*case)).min() > 0


@pytest.mark.parametrize("loss", [losses.euclidean_loss, losses.cosine_loss])
def test_target_gets_its_gradient_without_stop_gradient(loss, x64):
    p, z2, *_ = make_case()
    total = jax.jit(lambda p, z2: loss(p, z2, stop_gradient=False).sum())
    check_grads(total, (p, z2), order=1, modes="rev", atol=1e-7, rtol=1e-7)
    assert jnp.abs(jax.grad(total, 1)(p, z2)).min() > 0


@all_losses
def test_iso_losses_stop_the_prediction_but_not_its_root(name):
    case = make_case()[:4]
    into_w, into_root = (gradient(name, *case, argument=i) for i in (2, 3))
    assert (jnp.abs(into_w).max() > 0) == (not name.startswith("iso"))
    assert (jnp.abs(into_root).max() > 0) == (name == "iso_cosine")


@all_functions
@pytest.mark.parametrize("dtype", [jnp.float16, jnp.bfloat16, jnp.float32])
def test_zero_vectors_give_finite_values_and_gradients(loss, dtype):
    # One sample for each choice of arguments that are zero.
    is_nonzero = np.array(list(itertools.product([0, 1], repeat=ARGUMENTS[loss])))
    args = [jnp.asarray(np.outer(c, [1, 2, 3, 4]), dtype) for c in is_nonzero.T]
    value_and_grad = jax.value_and_grad(loss, range(len(args)))
    values, gradients = jax.jit(jax.vmap(value_and_grad))(*args)
    assert values.dtype == dtype
    chex.assert_tree_all_finite((values, gradients))


@pytest.mark.parametrize(
    ("loss", "zeros"),
    [(losses.cosine_loss, 0), (losses.cosine_loss, 1), (losses.iso_cosine_loss, 1)],
)
def test_zero_vector_has_no_cosine_and_no_pull(loss, zeros):
    args = [jnp.arange(1.0, 5.0)] * ARGUMENTS[loss]
    args[zeros] = jnp.zeros(4)
    value, pull = jax.jit(jax.value_and_grad(loss))(*args)
    assert value == 0
    np.testing.assert_array_equal(pull, 0)


@pytest.mark.parametrize("loss", [losses.cosine_loss, losses.iso_cosine_loss])
@pytest.mark.parametrize("dtype", [jnp.bfloat16, jnp.float32])
def test_cosine_losses_do_not_depend_on_scale(loss, dtype):
    value_and_grad = jax.jit(jax.value_and_grad(loss))
    rng = np.random.default_rng(1)
    args = [jnp.asarray(x, dtype) for x in rng.normal(size=(ARGUMENTS[loss], 8))]
    value, pull = value_and_grad(*args)
    for scale in (2.0**-110, 2.0**110):
        scaled_value, scaled_pull = value_and_grad(*(x * scale for x in args))
        assert scaled_value == value
        np.testing.assert_array_equal(scaled_pull * scale, pull)


@all_losses
def test_bfloat16_agrees_with_float32_to_its_precision(name):
    case = [x.astype(jnp.bfloat16) for x in make_case()[:4]]
    loss = compiled_loss(name)
    low, high = loss(*case), loss(*(x.astype(jnp.float32) for x in case))
    assert low.dtype == jnp.bfloat16
    chex.assert_trees_all_close(low.astype(jnp.float32), high, atol=0.1, rtol=0.02)
