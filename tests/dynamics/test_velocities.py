import functools
import itertools

import chex
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from isojax import losses
from isojax.dynamics import velocities

SAMPLES, DIM = 16, 5
SPECTRA = {
    "distinct": np.array([0.1, 0.4, 0.7, 1.3, 2.0]),
    "root": np.array([0.01, 0.2, 0.5, 1.0, 3.0]) ** 0.5,
    "square": np.array([0.01, 0.2, 0.5, 1.0, 3.0]) ** 2,
    "repeated": np.array([0.5, 0.5, 0.5, 1.5, 1.5]),
    "uniform": np.array([0.7, 0.7, 0.7, 0.7, 0.7]),
    "singular": np.array([0.0, 0.0, 0.3, 0.8, 1.7]),
    "rank one": np.array([0.0, 0.0, 0.0, 0.0, 1.2]),
}
# The losses in the predictor's eigenbasis, with d the diagonal of D for each sample.
LOSSES = {
    "euclidean": lambda z1, z2, d: losses.euclidean_loss(d * z1, z2),
    "iso_euclidean": lambda z1, z2, d: losses.iso_euclidean_loss(z1, d * z1, z2),
    "euclidean_no_stop_gradient": lambda z1, z2, d: losses.euclidean_loss(
        d * z1, z2, stop_gradient=False
    ),
    "euclidean_no_predictor": lambda z1, z2, d: losses.euclidean_loss(z1, z2),
    "cosine": lambda z1, z2, d: losses.cosine_loss(d * z1, z2),
    "iso_cosine": lambda z1, z2, d: losses.iso_cosine_loss(
        z1, d * z1, jnp.sqrt(d) * z1, z2
    ),
    "cosine_no_stop_gradient": lambda z1, z2, d: losses.cosine_loss(
        d * z1, z2, stop_gradient=False
    ),
    "cosine_no_predictor": lambda z1, z2, d: losses.cosine_loss(z1, z2),
}
NAMES = [*LOSSES, "cosine_near_uniform"]
COSINES = [name for name in NAMES if "cosine" in name]

all_velocities = pytest.mark.parametrize("name", NAMES)
all_losses = pytest.mark.parametrize("name", LOSSES)
all_spectra = pytest.mark.parametrize("spectrum", SPECTRA)
all_views = pytest.mark.parametrize("views", [1, 2])


@functools.cache
def compiled_velocity(name):
    return jax.jit(getattr(velocities, name))


@functools.cache
def compiled_descent(name):
    """Minus the gradient of the loss, on the second view too if it is not stopped."""
    total = jax.grad(lambda *args: LOSSES[name](*args).sum(), (0, 1))
    return jax.jit(lambda *args: -sum(total(*args)))


def make_views(views=2, seed=0):
    z1, z2 = np.random.default_rng(seed).normal(size=(2, SAMPLES, DIM))
    return jnp.asarray(z1), jnp.asarray(z2 if views == 2 else z1)


# z1 = (3, 2), z2 = (4, 3), lam = (1, 2): p = (3, 4), |p| = |z2| = 5, p.z2 = 24.
@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("euclidean", [1, -2]),
        ("iso_euclidean", [1, -1]),
        ("euclidean_no_stop_gradient", [0, -1]),
        ("euclidean_no_predictor", [1, 1]),
        ("cosine", [28 / 625, -42 / 625]),
        ("cosine_near_uniform", [72 / 625, -24 / 625]),
        ("iso_cosine", [28 / 625, -21 / 625]),
        ("cosine_no_stop_gradient", [7 / 625, -14 / 625]),
        ("cosine_no_predictor", [-2 / 65 / 13**0.5, 3 / 65 / 13**0.5]),
    ],
)
def test_velocity_equals_value_computed_by_hand(name, expected):
    args = jnp.array([3.0, 2.0]), jnp.array([4.0, 3.0]), jnp.array([1.0, 2.0])
    np.testing.assert_allclose(compiled_velocity(name)(*args), expected, rtol=1e-5)


@all_losses
@all_spectra
@all_views
def test_velocity_is_minus_the_gradient_of_the_loss(name, spectrum, views, x64):
    z1, z2 = make_views(views)
    lam = jnp.asarray(SPECTRA[spectrum])
    d = jnp.broadcast_to(lam, z1.shape)
    np.testing.assert_allclose(
        compiled_velocity(name)(z1, z2, lam),
        compiled_descent(name)(z1, z2, d),
        rtol=1e-10,
        atol=1e-13,
    )


def literal_sum(name, a, b, lam):
    """The velocity of one sample as the appendix writes it, mode by mode."""
    modes = range(DIM)
    c = np.linalg.norm(lam * a) ** 3 * np.linalg.norm(b)
    iso_cosine = [
        sum(
            lam[k] * (lam[k] * a[k] ** 2 * b[m] - lam[m] * a[k] * b[k] * a[m])
            for k in modes
            if k != m
        )
        / c
        for m in modes
    ]
    near_uniform = [
        lam[m] * a[m] ** 2 * b[m] / c
        * sum(lam[k] * (lam[k] - lam[m]) for k in modes if k != m)
        for m in modes
    ]  # fmt: skip
    return np.array(
        {
            "euclidean": lam * (b - lam * a),
            "iso_euclidean": b - lam * a,
            "euclidean_no_stop_gradient": (lam - 1) * (b - lam * a),
            "euclidean_no_predictor": b - a,
            "cosine": lam * iso_cosine,
            "iso_cosine": iso_cosine,
            "cosine_near_uniform": near_uniform,
        }[name]
    )


def literal_single_view(name, z, lam):
    """The right-hand sides at z1 = z2 = z, for the representations of one sample."""
    norm, p_norm = np.linalg.norm(z), np.linalg.norm(lam * z)
    modes = range(DIM)
    sums = np.array([sum(lam * z**2 * (lam - lam[m])) for m in modes])
    cosine = lam * z / (p_norm**3 * norm) * sums
    target = np.array([sum(z**2 * (lam - lam[m])) for m in modes])
    return {
        "euclidean": lam * (1 - lam) * z,
        "iso_euclidean": (1 - lam) * z,
        "euclidean_no_stop_gradient": -((1 - lam) ** 2) * z,
        "euclidean_no_predictor": 0 * z,
        "cosine": cosine,
        "cosine_near_uniform": lam
        * (z**2 / p_norm**3)
        * (z / norm)
        * [sum(lam * (lam - lam[m])) for m in modes],
        "iso_cosine": z / (p_norm**3 * norm) * sums,
        "cosine_no_stop_gradient": cosine - z / (p_norm * norm**3) * target,
        "cosine_no_predictor": 0 * z,
    }[name]


@pytest.mark.parametrize(
    "name", [n for n in NAMES if n not in LOSSES or not n.startswith("cosine_no")]
)
@all_spectra
def test_velocity_equals_sums_over_modes_for_two_views(name, spectrum, x64):
    z1, z2 = make_views()
    lam = SPECTRA[spectrum]
    expected = [literal_sum(name, *pair, lam) for pair in np.stack([z1, z2], axis=1)]
    np.testing.assert_allclose(
        compiled_velocity(name)(z1, z2, lam), expected, rtol=1e-10, atol=1e-13
    )


@all_velocities
@all_spectra
def test_velocity_equals_sums_over_modes_for_one_view(name, spectrum, x64):
    z, _ = make_views()
    lam = SPECTRA[spectrum]
    expected = [literal_single_view(name, row, lam) for row in np.asarray(z)]
    np.testing.assert_allclose(
        compiled_velocity(name)(z, z, lam), expected, rtol=1e-10, atol=1e-13
    )


@pytest.mark.parametrize("metric", ["euclidean", "cosine"])
@all_spectra
def test_velocity_is_eigenvalues_times_that_of_the_iso_loss(metric, spectrum, x64):
    z1, z2 = make_views()
    lam = SPECTRA[spectrum]
    iso = np.asarray(compiled_velocity(f"iso_{metric}")(z1, z2, lam))
    np.testing.assert_allclose(
        compiled_velocity(metric)(z1, z2, lam), lam * iso, rtol=1e-13, atol=1e-15
    )


@all_spectra
def test_near_uniform_is_exact_where_modes_contribute_equally(spectrum, x64):
    signs = jnp.sign(make_views()[0])
    lam = jnp.asarray(SPECTRA[spectrum])
    exact = compiled_velocity("cosine")(0.3 * signs, 1.7 * signs, lam)
    approximate = compiled_velocity("cosine_near_uniform")
    np.testing.assert_allclose(
        approximate(0.3 * signs, 1.7 * signs, lam), exact, rtol=1e-12, atol=1e-13
    )


def test_near_uniform_does_not_become_exact_as_eigenvalues_draw_together(x64):
    # Middle mode: sum_k z_k^2 (lam_k - lam_m) < 0, but sum_k (lam_k - lam_m) > 0.
    z = jnp.sqrt(jnp.array([6.0, 3.0, 2.0]))
    for gap in (1e-2, 1e-4, 1e-6):
        lam = 1 + gap * jnp.array([-1.0, 0.0, 2.0])
        exact = compiled_velocity("cosine")(z, z, lam)
        approximate = compiled_velocity("cosine_near_uniform")(z, z, lam)
        np.testing.assert_allclose(
            exact / approximate, [9 / 24, -2 / 3, 24 / 10], rtol=30 * gap
        )


@all_velocities
def test_velocity_is_per_sample_under_jit_vmap_and_more_axes(name):
    z1, z2 = make_views()
    velocity = getattr(velocities, name)
    lam = jnp.asarray(np.random.default_rng(2).uniform(size=(SAMPLES, DIM)))
    eager = velocity(z1, z2, lam)
    assert eager.shape == (SAMPLES, DIM)
    stacked = [x.reshape(4, -1, DIM) for x in (z1, z2, lam)]
    for other in (
        compiled_velocity(name)(z1, z2, lam),
        jax.jit(jax.vmap(velocity))(*stacked).reshape(SAMPLES, DIM),
    ):
        np.testing.assert_allclose(other, eager, rtol=1e-5, atol=1e-6)
    mapped = jax.jit(jax.vmap(velocity, in_axes=(0, 0, None)))(z1, z2, lam[0])
    shared = compiled_velocity(name)(z1, z2, lam[0])
    np.testing.assert_allclose(mapped, shared, rtol=1e-5, atol=1e-6)


@all_velocities
def test_wrong_shapes_and_integers_are_refused(name):
    velocity = getattr(velocities, name)
    z, lam = jnp.ones((3, 4)), jnp.ones(4)
    with pytest.raises(AssertionError, match=r"shapes.*\(3, 4\).*\(1, 4\)"):
        velocity(z, z[:1], lam)
    for shape in [(), (1,), (5,), (3, 1)]:
        with pytest.raises(AssertionError, match=r"expected \(\.\.\., 4\)"):
            velocity(z, z, jnp.ones(shape))
    for shape in [(2, 4), (2, 3, 4)]:
        with pytest.raises(AssertionError, match=r"not broadcastable.*\(3, 4\)"):
            velocity(z, z, jnp.ones(shape))
    for odd in range(3):
        args = [z, z, lam]
        args[odd] = args[odd].astype(jnp.int32)
        with pytest.raises(AssertionError, match="int32"):
            velocity(*args)


@all_velocities
@pytest.mark.parametrize("dtype", [jnp.bfloat16, jnp.float32])
def test_zero_vectors_give_finite_velocities_and_gradients(name, dtype):
    # One sample for each choice of arguments that are zero.
    is_nonzero = np.array(list(itertools.product([0, 1], repeat=3)))
    args = [jnp.asarray(np.outer(c, [1, 2, 3, 4]), dtype) for c in is_nonzero.T]
    velocity = compiled_velocity(name)(*args)
    assert velocity.dtype == dtype
    total = jax.grad(lambda *args: getattr(velocities, name)(*args).sum(), (0, 1, 2))
    gradients = jax.jit(total)(*args)
    chex.assert_tree_all_finite((velocity, gradients))
    if name in COSINES:
        has_zero_view = ~is_nonzero[:, :2].all(axis=1)
        for x in (velocity, *gradients):
            np.testing.assert_array_equal(x[has_zero_view], 0)


@pytest.mark.parametrize("name", COSINES)
@pytest.mark.parametrize("dtype", [jnp.bfloat16, jnp.float32])
def test_cosine_velocity_is_inverse_to_the_scale(name, dtype):
    z1, z2 = (z.astype(dtype) for z in make_views())
    lam = jnp.asarray(SPECTRA["distinct"], dtype)
    velocity = compiled_velocity(name)
    for scale in (2.0**-90, 2.0**90):
        np.testing.assert_array_equal(
            velocity(scale * z1, scale * z2, lam) * scale, velocity(z1, z2, lam)
        )


@all_velocities
def test_bfloat16_agrees_with_float32_to_its_precision(name):
    args = [x.astype(jnp.bfloat16) for x in make_views()]
    args.append(jnp.asarray(SPECTRA["distinct"], jnp.bfloat16))
    low = compiled_velocity(name)(*args)
    high = compiled_velocity(name)(*(x.astype(jnp.float32) for x in args))
    assert low.dtype == jnp.bfloat16 and high.dtype == jnp.float32
    scale = float(jnp.abs(high).max())
    np.testing.assert_allclose(low.astype(jnp.float32), high, atol=0.02 * scale)


@pytest.mark.parametrize(
    ("name", "weight"),
    [
        ("cosine", lambda lam: 0 * lam + 1),
        ("iso_cosine", lambda lam: lam),
        ("cosine_no_stop_gradient", lambda lam: 0 * lam + 1),
    ],
)
@all_spectra
def test_cosine_losses_conserve_a_length(name, weight, spectrum, x64):
    z, _ = make_views()
    lam = SPECTRA[spectrum]
    velocity = np.asarray(compiled_velocity(name)(z, z, lam))
    change_of_length = (weight(lam) * np.asarray(z) * velocity).sum(-1)
    np.testing.assert_allclose(change_of_length, 0, atol=1e-14)


def test_no_stop_gradient_collapses_onto_the_dominant_mode(x64):
    lam = np.array([0.3, 0.6, 0.9, 1.2, 2.0])
    signs = np.array([1.0, -1.0, 1.0, 1.0, -1.0])
    gap = (1 - lam / lam[-1]) ** 2
    errors = []
    epsilons = np.geomspace(1e-1, 1e-3, 5)
    for epsilon in epsilons:
        z = signs * np.array([epsilon, 2 * epsilon, -epsilon, 0.5 * epsilon, 1.5])
        velocity = np.asarray(
            compiled_velocity("cosine_no_stop_gradient")(*map(jnp.asarray, (z, z, lam)))
        )
        expected = -gap * z / z[-1] ** 2
        expected[-1] = (gap * z**2).sum() / z[-1] ** 3
        errors.append(np.abs(velocity - expected))
    slopes = np.polyfit(np.log(epsilons), np.log(errors), 1)[0]
    np.testing.assert_allclose(slopes, [3, 3, 3, 3, 4], atol=0.1)


def test_no_stop_gradient_reduces_the_variance_of_nearly_uniform_eigenvalues(x64):
    z = np.array([0.5, -1.0, 1.5, 0.7, -0.8])
    share = z**2 / (z**2).sum()
    gaps = np.geomspace(1e-1, 1e-3, 5)
    errors = []
    for gap in gaps:
        lam = 1 + gap * np.array([-1.0, -0.5, 0.1, 0.4, 1.0])
        velocity = np.asarray(
            compiled_velocity("cosine_no_stop_gradient")(*map(jnp.asarray, (z, z, lam)))
        )
        mean = share @ lam
        deviation = (lam - mean) ** 2
        expected = z / (z @ z) * (share @ deviation - deviation) / mean**2
        errors.append(np.abs(velocity - expected).max())
        assert (np.sign(velocity * z) == np.sign(expected * z)).all()
    slope = np.polyfit(np.log(gaps), np.log(errors), 1)[0]
    np.testing.assert_allclose(slope, 3, atol=0.1)
