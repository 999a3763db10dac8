import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from isojax.dynamics import expectations, velocities

SAMPLES, DIM = 12, 5
SPECTRA = {
    "distinct": np.array([0.1, 0.4, 0.7, 1.3, 2.0]),
    "repeated": np.array([0.5, 0.5, 0.5, 1.5, 1.5]),
    "singular": np.array([0.0, 0.0, 0.3, 0.8, 1.7]),
}
SIGNS = np.array([1.0, -1.0, 1.0, 1.0, -1.0])
SAMPLED = {
    "cosine": expectations.expected_cosine,
    "iso_cosine": expectations.expected_iso_cosine,
    "cosine_near_uniform": expectations.expected_cosine_near_uniform,
}
EXPECTED = {**SAMPLED, "dominant_mode": expectations.expected_cosine_dominant_mode}

all_sampled = pytest.mark.parametrize("name", SAMPLED)
all_expectations = pytest.mark.parametrize("name", EXPECTED)
all_spectra = pytest.mark.parametrize("spectrum", SPECTRA)


@functools.cache
def compiled(name):
    return jax.jit(EXPECTED[name])


def make_views(seed=0, samples=SAMPLES):
    """Draws of one view of an image, with the same signs in all."""
    noise = np.random.default_rng(seed).normal(size=(samples, DIM))
    return jnp.asarray(SIGNS * np.array([0.3, 1.0, 0.5, 2.0, 1.2]) * np.exp(noise / 2))


def average_over_pairs(name, z1, z2, lam):
    velocity = jax.vmap(getattr(velocities, name), in_axes=(None, 0, None))
    pairs = jax.jit(jax.vmap(velocity, in_axes=(0, None, None)))(z1, z2, lam)
    assert pairs.shape == (len(z1), len(z2), DIM)
    return pairs.mean((0, 1))


@all_sampled
@all_spectra
def test_expectation_is_the_average_over_all_pairs_of_views(name, spectrum, x64):
    z1, z2 = make_views(0), make_views(1, SAMPLES // 2)
    lam = jnp.asarray(SPECTRA[spectrum])
    np.testing.assert_allclose(
        compiled(name)(z1, z2, lam),
        average_over_pairs(name, z1, z2, lam),
        rtol=1e-12,
        atol=1e-14,
    )


@all_sampled
def test_signs_need_not_agree(name, x64):
    z1, z2 = jnp.asarray(np.random.default_rng(0).normal(size=(2, SAMPLES, DIM)))
    lam = jnp.asarray(SPECTRA["distinct"])
    np.testing.assert_allclose(
        compiled(name)(z1, z2, lam),
        average_over_pairs(name, z1, z2, lam),
        rtol=1e-12,
        atol=1e-14,
    )


@pytest.mark.parametrize("name", ["cosine", "iso_cosine"])
@all_spectra
def test_expectation_equals_eq_22_written_out(name, spectrum, x64):
    z = np.asarray(make_views())
    lam = SPECTRA[spectrum]
    norm = np.linalg.norm(z, axis=1)
    chi, weight = abs(z) / norm[:, None], norm**2 / np.linalg.norm(lam * z, axis=1) ** 3
    expected = [
        SIGNS[m]
        * sum(
            lam[k]
            * (
                lam[k] * np.mean(chi[:, k] ** 2 * weight) * np.mean(chi[:, m])
                - lam[m] * np.mean(chi[:, m] * chi[:, k] * weight) * np.mean(chi[:, k])
            )
            for k in range(DIM)
            if k != m
        )
        for m in range(DIM)
    ]
    np.testing.assert_allclose(
        compiled(name)(z, z, lam),
        expected if name == "iso_cosine" else lam * expected,
        rtol=1e-12,
        atol=1e-14,
    )


@all_spectra
def test_near_uniform_equals_eq_11_written_out(spectrum, x64):
    z = np.asarray(make_views())
    lam = SPECTRA[spectrum]
    p_norm = np.linalg.norm(lam * z, axis=1)[:, None]
    direction = z / np.linalg.norm(z, axis=1)[:, None]
    gaps = [sum(lam * (lam - lam[m])) for m in range(DIM)]
    np.testing.assert_allclose(
        compiled("cosine_near_uniform")(z, z, lam),
        lam * (z**2 / p_norm**3).mean(0) * direction.mean(0) * gaps,
        rtol=1e-12,
        atol=1e-14,
    )


@all_spectra
def test_near_uniform_equals_eq_23_and_eq_22_where_modes_contribute_equally(
    spectrum, x64
):
    scales = np.random.default_rng(0).uniform(0.5, 2, size=SAMPLES)
    z = jnp.asarray(np.outer(scales, SIGNS))
    lam = SPECTRA[spectrum]
    chi = DIM**-0.5
    weight = np.mean(DIM * scales**2 / (scales * np.linalg.norm(lam)) ** 3)
    gaps = np.array([sum(lam * (lam - lam[m])) for m in range(DIM)])
    eq_23 = lam * SIGNS * chi**2 * weight * chi * gaps
    for name in ("cosine", "cosine_near_uniform"):
        np.testing.assert_allclose(
            compiled(name)(z, z, lam), eq_23, rtol=1e-12, atol=1e-14
        )


def test_expectation_is_the_mean_over_independent_pairs_of_views(x64):
    z1, z2 = (make_views(seed, 20_000) for seed in (0, 1))
    lam = jnp.asarray(SPECTRA["distinct"])
    pairs = np.asarray(jax.jit(velocities.cosine)(z1, z2, lam))
    standard_error = pairs.std(0) / len(pairs) ** 0.5
    # Other draws of the views; their own error is no larger than that of the pairs.
    expected = compiled("cosine")(make_views(2, 20_000), make_views(3, 20_000), lam)
    assert (abs(pairs.mean(0) - expected) < 4 * 2**0.5 * standard_error).all()
    assert (abs(expected) > 10 * standard_error).all()


def make_dominated(epsilon):
    """Draws of a view in which mode 1, with the largest eigenvalue, dominates."""
    z = np.array(make_views())
    z[:, [0, 2, 3, 4]] *= epsilon
    return jnp.asarray(z), jnp.array([0.2, 2.0, 0.5, 0.9, 1.1])


def fitted_orders(epsilons, values):
    return np.polyfit(np.log(epsilons), np.log(np.abs(values)), 1)[0]


def test_dominant_mode_shrinks_slowly_while_it_pulls_others_up(x64):
    epsilons = np.geomspace(1e-2, 1e-4, 5)
    exact = [compiled("cosine")(z, z, lam) for z, lam in map(make_dominated, epsilons)]
    growth = np.sign(exact) * SIGNS
    np.testing.assert_array_equal(growth, [[1, -1, 1, 1, 1]] * len(epsilons))
    orders = fitted_orders(epsilons, exact)
    np.testing.assert_allclose(orders, [1, 2, 1, 1, 1], atol=0.01)


def test_dominant_mode_is_the_leading_order(x64):
    epsilons = np.geomspace(3e-2, 1e-3, 5)
    errors = []
    for z, lam in map(make_dominated, epsilons):
        leading = compiled("dominant_mode")(z[:6], z[6:], lam)
        errors.append(leading - compiled("cosine")(z[:6], z[6:], lam))
    orders = fitted_orders(epsilons, errors)
    np.testing.assert_allclose(orders, [3, 4, 3, 3, 3], atol=0.1)


def test_dominant_mode_equals_its_formula_for_a_single_view(x64):
    z, lam = make_dominated(0.1)
    z = z[:1]
    (a,), m = np.asarray(z), 1
    expected = lam * (lam[m] - lam) * a / (lam[m] * a[m]) ** 2
    drain = lam * (lam[m] - lam) * a**2 / (lam[m] ** 2 * a[m] ** 3)
    expected = expected.at[m].set(-drain.sum())
    np.testing.assert_allclose(
        compiled("dominant_mode")(z, z, lam), expected, rtol=1e-12
    )


@pytest.mark.parametrize(("spread", "growth"), [(0.2, -1), (0.8, 1)])
def test_dominant_mode_grows_under_strong_augmentation(spread, growth, x64):
    # 1.0 E[z]^2 < 0.9 E[z^2] for a small mode once its variance exceeds a ninth.
    small = 0.01 * np.array([1 - spread, 1 + spread])
    z = jnp.asarray(np.stack([small, np.ones(2)], axis=1))
    lam = jnp.array([0.9, 1.0])
    for name in ("cosine", "dominant_mode"):
        _, dominant = compiled(name)(z, z, lam)
        assert np.sign(dominant) == growth
    expected = -0.9 * 0.01**2 * (1.0 - 0.9 * (1 + spread**2))
    np.testing.assert_allclose(dominant, expected, rtol=1e-12)


@pytest.mark.parametrize("name", ["cosine", "dominant_mode"])
def test_expectation_agrees_under_jit_and_vmap(name):
    z1, z2 = jnp.stack([make_views(0), make_views(1)])
    lam = jnp.asarray(SPECTRA["distinct"])
    eager = EXPECTED[name](z1, z2, lam)
    np.testing.assert_allclose(compiled(name)(z1, z2, lam), eager, rtol=1e-4)
    over_images = jax.jit(jax.vmap(EXPECTED[name], in_axes=(0, 0, None)))
    images = over_images(jnp.stack([z2, z1]), jnp.stack([z1, z2]), lam)
    np.testing.assert_allclose(images[1], eager, rtol=1e-4)


@all_sampled
def test_zero_views_and_opposite_views_have_no_velocity(name):
    z, lam = make_views(), jnp.asarray(SPECTRA["distinct"])
    opposite = jnp.concatenate([z[: SAMPLES // 2], -z[: SAMPLES // 2]])
    for z1, z2 in [(0 * z, z), (z, 0 * z), (z, opposite)]:
        np.testing.assert_allclose(compiled(name)(z1, z2, lam), 0, atol=1e-6)


def test_zero_views_give_no_gradient():
    z, lam = make_views(), jnp.asarray(SPECTRA["distinct"])
    total = jax.jit(jax.grad(lambda *args: SAMPLED["cosine"](*args).sum(), (0, 1, 2)))
    for gradient in total(0 * z, 0 * z, lam):
        np.testing.assert_array_equal(gradient, 0)


@all_expectations
@pytest.mark.parametrize(
    ("shapes", "named"),
    [
        (((3, 4), (2, 5), (4,)), "shapes.*4.*5"),
        (((3, 4), (2, 4), (5,)), "shapes.*4.*5"),
        (((4,), (2, 4), (4,)), "rank"),
        (((3, 4), (3, 4), (3, 4)), "rank"),
    ],
)
def test_wrong_shapes_are_refused(name, shapes, named):
    with pytest.raises(AssertionError, match=named):
        EXPECTED[name](*map(jnp.ones, shapes))
    with pytest.raises(AssertionError, match="int32"):
        EXPECTED[name](jnp.ones((3, 4)), jnp.ones((2, 4)), jnp.ones(4, jnp.int32))
