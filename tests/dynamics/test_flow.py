import itertools
import re

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from isojax.dynamics import velocities
from isojax.dynamics.flow import FLOWS, eigenvalue_flow
from isojax.dynamics.quadrature import cosine_moments, target_cosine_moments
from isojax.losses import cosine_loss, euclidean_loss

pytestmark = pytest.mark.usefixtures("x64")

SPECTRA = {
    "ten": np.random.default_rng(0).uniform(0.05, 1, 10),
    "four decades": np.logspace(-4, 0, 6),
    "two": np.array([0.1, 0.9]),
    "two far apart": np.array([1e-3, 1.0]),
    "equal": np.full(4, 0.7),
    "large": np.linspace(1, 30, 8),
}
COSINE = [name for name in FLOWS if "cosine" in name]
EUCLIDEAN = [name for name in FLOWS if "euclidean" in name]


def plain_moments(lam, v, nodes, *, swap=False):
    """The double integral of a^{-3/2} b^{-1/2} over t and u, without any stretching."""
    x, w = np.polynomial.legendre.leggauss(nodes)
    x, w = (x + 1) / 2, w / 2 / ((1 - x) / 2) ** 2
    a, b = np.sqrt(np.sum(lam**2 * v)), np.sqrt(np.sum(v))
    r, q = x / (1 - x) / a, x / (1 - x) / b
    d = 1 + 2 * v * (r[:, None, None] ** 2 * lam**2 + q[None, :, None] ** 2)
    polynomial = np.where(swap, q[None, :] ** 2, r[:, None] ** 2)
    weights = 8 / np.pi * np.outer(w / a, w / b) * polynomial
    weights = weights * np.exp(-0.5 * np.log(d).sum(-1))
    moments = np.einsum("abk,abm,ab->mk", v / d, 1 / d, weights)
    return moments * (1 + 2 * np.eye(len(lam)))


@pytest.mark.parametrize("alpha", [0.5, 1.0])
@pytest.mark.parametrize("spectrum", ["ten", "large", "equal"])
def test_quadrature_is_the_plain_one_with_160_nodes(spectrum, alpha):
    lam = SPECTRA[spectrum]
    v = lam ** (1 / alpha)
    q, r, t = target_cosine_moments(lam, v)
    np.testing.assert_allclose(q, plain_moments(lam, v, 160), rtol=1e-7)
    np.testing.assert_allclose(r, plain_moments(lam, v, 160, swap=True), rtol=1e-7)
    np.testing.assert_array_equal(t, 0)
    np.testing.assert_allclose(cosine_moments(lam, v)[0], q, rtol=1e-14)


def growth_of_two_modes(lam, v):
    """d log(lam) / dt / 2 of the iso-cosine loss, as an integral over the angle."""
    # tan(angle) = e^x; the rule of equal steps converges geometrically.
    x = np.arange(-80, 80, 0.02)
    unit = np.array([np.exp(-np.logaddexp(0, 2 * y) / 2) for y in (x, -x)])
    # The density of the direction of a Gaussian vector, and d(angle) / dx.
    density = 0.02 / (2 * np.pi * np.sqrt(v.prod())) / (unit**2 / v[:, None]).sum(0)
    norm = np.sqrt(((lam[:, None] * unit) ** 2).sum(0))
    q = 4 * np.sum(unit[0] ** 3 * unit[1] ** 3 / norm**3 * density)
    return q * lam[::-1] * (lam[::-1] - lam) / v


@pytest.mark.parametrize("alpha", [0.5, 1.0, 2.0])
@pytest.mark.parametrize("ratio", [9.0, 1e3, 1e4, 1e5, 1e6])
def test_the_flow_of_two_modes_is_the_integral_over_angles(ratio, alpha):
    lam = np.array([1 / ratio, 1.0])
    flow = eigenvalue_flow("iso_cosine", jnp.array(lam), alpha=alpha)
    expected = 2 * alpha * lam * growth_of_two_modes(lam, lam ** (1 / alpha))
    np.testing.assert_allclose(flow, expected, rtol=1e-7)


def equal_steps_flow(lam, counts, alpha, noise=(0.0, 0.0)):
    """Flow of distinct eigenvalues, each repeated, by equal steps of log t and log u.

    Returns those of the cosine loss with and without stop-gradient. Under e^{-ta-ub}
    the modes are Gaussian with the covariance S / d, and moments factor over modes.
    """
    step = 0.35
    v = lam ** (1 / alpha)
    a1, a2 = 1 + np.square(noise)
    rho = a1 * a2 - 1
    a, b = a1 * lam**2 * v, a2 * v
    edges = [
        np.arange(np.log(1 / scale.sum()) - 40, np.log(1 / scale.min()) + 35, step)
        for scale in (a, b)
    ]
    t = np.exp(edges[0])[:, None]
    growth = np.zeros((2, len(lam)))
    gaps, wide_gaps = (x - x[:, None] for x in (lam, lam * v))
    for u in np.exp(edges[1]):
        d = 1 + 2 * t * a + 2 * u * b + 4 * t * u * rho * (lam * v) ** 2
        rest = np.exp(-0.5 * np.log(d) @ counts)[:, None] * step**2 * 2 / np.pi
        # lam_k S11_k S12_m - lam_m S11_m S12_k, and the same with S22.
        online = lam[:, None] * lam * (a1 * gaps + 2 * u * rho * wide_gaps)
        weights = (rest * t**1.5 * u**0.5 / d).T @ (counts * v / d)
        growth[0] += np.sum(online * weights, axis=1)
        weights = (rest * t**0.5 * u**1.5 / d).T @ (counts * v / d)
        growth[1] += np.sum(a2 * gaps * weights, axis=1)
        weights = (rest * t**1.5 * u**1.5 / d).T @ (counts * v / d)
        target = lam[:, None] * lam * 2 * rho * wide_gaps
        growth[1] -= np.sum(target * weights, axis=1)
    return 2 * alpha * lam * np.array([growth[0], growth[0] - growth[1]])


REPEATED = {
    "two": ([1e-6, 1], [1, 1]),
    "three": ([1e-6, 1e-3, 1], [1, 1, 1]),
    "two weak ones": ([1e-6, 1], [2, 1]),
    "ten": (np.logspace(-6, 0, 10), np.ones(10)),
    "nine weak ones": ([1e-6, 1], [9, 1]),
    "eight strong ones": ([1e-6, 1], [2, 8]),
    "groups": ([1e-6, 2e-6, 1e-3, 1], [3, 2, 4, 1]),
    "near": ([0.1, 1], [5, 5]),
    "eleven": ([1e-6, 1], [2, 9]),
    "64": (np.logspace(-6, 0, 16), np.full(16, 4)),
    "64, most strong": ([1e-6, 1e-2, 1], [2, 2, 60]),
    "256": ([1e-6, 1], [128, 128]),
    "256 near": ([0.2, 0.5, 1], [100, 100, 56]),
}
# Each number of modes and dtype is compiled once, which takes most of the time.
SLOW = {("float64", "256"), ("float64", "256 near"), ("float32", "two")}
SLOW |= {("float32", name) for name in ("three", "two weak ones", "eleven")}
SLOW |= {("float32", name) for name in ("256", "256 near")}
SPECTRA_OF_DTYPES = [
    pytest.param(*case, marks=[pytest.mark.slow] if case in SLOW else [])
    for case in itertools.product(["float64", "float32"], REPEATED)
]


@pytest.mark.parametrize("alpha", [0.5, 1.0, 2.0])
@pytest.mark.parametrize(("dtype", "spectrum"), SPECTRA_OF_DTYPES)
def test_modes_six_decades_apart(dtype, spectrum, alpha):
    lam, counts = (np.array(column, float) for column in REPEATED[spectrum])
    expected = equal_steps_flow(lam, counts, alpha)
    repeated = jnp.repeat(jnp.array(lam, dtype), counts.astype(int))
    for name, row in zip(["cosine", "cosine_no_stop_gradient"], expected, strict=True):
        flow = eigenvalue_flow(name, repeated, alpha=alpha)
        tolerance = 1e-6 if dtype == "float64" else 1e-4
        expected_flow = np.repeat(row, counts.astype(int))
        np.testing.assert_allclose(flow, expected_flow, rtol=tolerance)


@pytest.mark.parametrize("noise", [(0.0, 1e-3), (0.1, 0.0), (0.3, 0.5), (2.0, 2.0)])
@pytest.mark.parametrize("spectrum", ["two", "three", "ten", "near", "eleven"])
def test_modes_six_decades_apart_with_view_noise(spectrum, noise):
    lam, counts = (np.array(column, float) for column in REPEATED[spectrum])
    repeated = np.repeat(lam, counts.astype(int))
    for alpha in (0.5, 2.0):
        settings = {"alpha": alpha, "view_noise": noise}
        expected = equal_steps_flow(lam, counts, alpha, noise)
        names = ["cosine", "cosine_no_stop_gradient"]
        for name, row in zip(names, expected, strict=True):
            flow = eigenvalue_flow(name, jnp.array(repeated), **settings)
            row = np.repeat(row, counts.astype(int))
            np.testing.assert_allclose(flow, row, rtol=1e-6)


def test_the_nodes_of_a_batch_resolve_all_of_its_spectra():
    batch = jnp.array([[0.5, 0.8, 1.0], [1e-6, 1e-3, 1.0]])
    flow = jax.jit(jax.vmap(lambda lam: eigenvalue_flow("cosine", lam, alpha=0.5)))
    for row, alone in zip(flow(batch), batch, strict=True):
        expected = eigenvalue_flow("cosine", alone, alpha=0.5)
        np.testing.assert_allclose(row, expected, rtol=1e-6)


def test_the_gradient_between_modes_six_decades_apart():
    def growth(log_lam):
        lam = jnp.exp(log_lam)
        return eigenvalue_flow("cosine", lam, alpha=0.5) / lam

    log_lam = jnp.log(jnp.array([1e-6, 1e-3, 1.0]))
    jacobian = jax.jacrev(growth)(log_lam)
    step = 1e-3
    for j, shift in enumerate(step * jnp.eye(3)):
        difference = (growth(log_lam + shift) - growth(log_lam - shift)) / (2 * step)
        scale = jnp.abs(growth(log_lam))
        np.testing.assert_allclose(jacobian[:, j], difference, atol=1e-5 * scale.max())
        relative = np.abs(jacobian[:, j] - difference) / scale
        assert relative.max() < 1e-4


@pytest.mark.parametrize("name", ["cosine", "iso_cosine", "cosine_no_stop_gradient"])
def test_a_vanishing_mode_leaves_the_others_as_they_are(name):
    others = np.array([0.5, 0.7, 0.9])
    without = eigenvalue_flow(name, jnp.array(others))
    for weak in (1e-9, 1e-17, 1e-40):
        flow = eigenvalue_flow(name, jnp.array([weak, *others]))
        np.testing.assert_allclose(flow[1:], without, rtol=1e-6)
        assert np.isfinite(flow[0])


@pytest.mark.parametrize("moments", [cosine_moments, target_cosine_moments])
def test_quadrature_agrees_with_sampling(moments):
    rng = np.random.default_rng(1)
    lam, v = np.array([0.2, 0.5, 1.0]), np.array([0.3, 0.1, 0.9])
    z = rng.standard_normal((400_000, 3)) * np.sqrt(v)
    a, b = np.square(lam * z).sum(-1), np.square(z).sum(-1)
    powers = (-1.5, -0.5) if moments is cosine_moments else (-0.5, -1.5)
    weights = a ** powers[0] * b ** powers[1]
    sampled = z[:, :, None] ** 2 * z[:, None, :] ** 2 * weights[:, None, None]
    error = sampled.std(0) / np.sqrt(len(z))
    q, r, _ = target_cosine_moments(lam, v)
    expected = (q if moments is cosine_moments else r) * v[:, None]
    assert np.all(np.abs(sampled.mean(0) - expected) < 5 * error)


@pytest.mark.parametrize("spectrum", SPECTRA)
def test_quadrature_in_float32(spectrum):
    lam = SPECTRA[spectrum]
    narrow = target_cosine_moments(jnp.float32(lam), jnp.float32(lam), (0.3, 1.0))
    wide = target_cosine_moments(lam, lam, (0.3, 1.0))
    for found, expected in zip(narrow, wide, strict=True):
        assert found.dtype == jnp.float32
        np.testing.assert_allclose(found, expected, rtol=1e-5)


@pytest.mark.parametrize("alpha", [0.5, 1.0])
@pytest.mark.parametrize("name", FLOWS)
def test_flow_is_the_average_of_the_velocities(name, alpha):
    """dW/dt = E[dz/dt x^T], so that dlam_m/dt = 2 alpha lam_m E[z_m dz_m/dt] / v_m."""
    rng = np.random.default_rng(2)
    lam = np.array([0.1, 0.3, 0.8])
    v = lam ** (1 / alpha)
    noise = (0.4, 0.3)
    x = rng.standard_normal((2, 200_000, 3))
    x = np.concatenate([x, -x], axis=1)  # antithetic, for the odd terms
    xi = rng.standard_normal((2, 400_000, 3))
    views = [x[0] + sigma * xi[i] for i, sigma in enumerate(noise)]
    z1, z2 = (np.sqrt(v) * view for view in views)
    if name.endswith("no_stop_gradient"):
        # Each view's part of the gradient goes with its own input.
        loss = euclidean_loss if "euclidean" in name else cosine_loss
        gradients = jax.grad(
            lambda z1, z2: loss(lam[None] * z1, z2, stop_gradient=False).sum(), (0, 1)
        )(jnp.array(z1), jnp.array(z2))
        parts = [np.asarray(g) * x for g, x in zip(gradients, views, strict=True)]
        growth = -sum(parts) / np.sqrt(v)
    else:
        velocity = getattr(velocities, name)(jnp.array(z1), jnp.array(z2), lam)
        growth = np.asarray(velocity) * views[0] / np.sqrt(v)
    error = 2 * alpha * lam * growth.std(0) / np.sqrt(len(growth))
    flow = eigenvalue_flow(name, jnp.array(lam), alpha=alpha, view_noise=noise)
    mean = 2 * alpha * lam * growth.mean(0)
    assert np.all(np.abs(mean - flow) <= 5 * error + 1e-12)


@pytest.mark.parametrize("noise", [(0.0, 0.0), (0.3, 1.0)])
@pytest.mark.parametrize("alpha", [0.5, 1.0, 2.0])
def test_the_cosine_losses_conserve_a_sum(alpha, noise):
    lam = jnp.array(SPECTRA["ten"])
    v = lam ** (1 / alpha)
    dv = v / lam / alpha
    settings = {"alpha": alpha, "view_noise": noise}
    for name in ("cosine", "cosine_no_stop_gradient", "cosine_no_predictor"):
        change = dv * eigenvalue_flow(name, lam, **settings)
        assert abs(jnp.sum(change)) <= 1e-14 * jnp.sum(jnp.abs(change))
    iso = eigenvalue_flow("iso_cosine", lam, **settings)
    assert abs(jnp.sum(lam * dv * iso)) < 1e-14 * jnp.sum(jnp.abs(lam * dv * iso))


def test_noise_enters_the_cosine_losses_by_the_correlation_of_the_views():
    lam = jnp.array(SPECTRA["two"])
    one_sided = (0.0, np.sqrt(1.04 * 1.25 - 1))
    for name in COSINE:
        flows = [
            eigenvalue_flow(name, lam, view_noise=noise)
            for noise in ((0.2, 0.5), (0.5, 0.2), one_sided)
        ]
        np.testing.assert_allclose(flows[1:], [flows[0]] * 2, rtol=1e-12)
        assert np.abs(flows[0] - eigenvalue_flow(name, lam)).min() > 1e-3


@pytest.mark.parametrize("name", COSINE)
def test_the_flow_is_smooth_in_the_noise(name):
    lam = jnp.array(SPECTRA["ten"])
    flow = jax.jit(lambda sigma: eigenvalue_flow(name, lam, view_noise=(0.0, sigma)))
    without = eigenvalue_flow(name, lam)
    np.testing.assert_allclose(flow(0.0), without, rtol=1e-12, atol=1e-16)
    np.testing.assert_allclose(jax.jacfwd(flow)(0.0), 0, atol=1e-16)
    # The first term of the expansion in the noise is of order sigma^2.
    small, large = (flow(sigma) - without for sigma in (1e-3, 2e-3))
    np.testing.assert_allclose(large, 4 * small, rtol=1e-4)
    batch = jax.vmap(flow)(jnp.array([0.5, 2.0]))
    for sigma, row in zip((0.5, 2.0), batch, strict=True):
        alone = eigenvalue_flow(name, lam, view_noise=(0.0, sigma))
        np.testing.assert_allclose(row, alone, rtol=1e-12)
    jax.test_util.check_grads(flow, (0.5,), order=1, modes=["rev"], rtol=1e-6)


@pytest.mark.parametrize("metric", ["euclidean", "cosine"])
def test_a_standard_flow_is_the_iso_flow_times_the_eigenvalue(metric):
    lam = jnp.array(SPECTRA["ten"])
    iso = eigenvalue_flow(f"iso_{metric}", lam, alpha=0.5)
    np.testing.assert_allclose(
        eigenvalue_flow(metric, lam, alpha=0.5), lam * iso, rtol=1e-12
    )


@pytest.mark.parametrize("name", ["cosine", "iso_cosine", "cosine_no_stop_gradient"])
def test_equal_eigenvalues_stay(name):
    flow = eigenvalue_flow(name, jnp.array(SPECTRA["equal"]))
    np.testing.assert_allclose(flow, 0, atol=1e-15)


def test_hand_computed_euclidean_values():
    lam = jnp.array([0.5, 2.0])
    flow = {
        name: eigenvalue_flow(name, lam, alpha=0.5, rate=2.0, view_noise=(1.0, 2.0))
        for name in EUCLIDEAN
    }
    np.testing.assert_allclose(flow["euclidean"], [0.0, -24.0], atol=1e-12)
    np.testing.assert_allclose(flow["iso_euclidean"], [0.0, -12.0], atol=1e-12)
    np.testing.assert_allclose(
        flow["euclidean_no_stop_gradient"], [-4.5, -36.0], rtol=1e-12
    )
    np.testing.assert_allclose(flow["euclidean_no_predictor"], [-1.0, -4.0], rtol=1e-12)


@pytest.mark.parametrize("name", FLOWS)
def test_weight_decay_shrinks_every_mode(name):
    lam = jnp.array(SPECTRA["ten"])
    settings = {"alpha": 0.5, "rate": 3.0}
    without = eigenvalue_flow(name, lam, **settings)
    decayed = eigenvalue_flow(name, lam, weight_decay=0.2, **settings)
    np.testing.assert_allclose(decayed - without, -0.6 * lam, rtol=1e-9)


@pytest.mark.parametrize("name", FLOWS)
def test_transformations(name):
    lam = jnp.array(SPECTRA["ten"])
    batch = jnp.stack([lam, 2 * lam])
    mapped = jax.jit(jax.vmap(lambda row: eigenvalue_flow(name, row)))(batch)
    for row, flow in zip(batch, mapped, strict=True):
        np.testing.assert_allclose(eigenvalue_flow(name, row), flow, rtol=1e-12)
    jax.test_util.check_grads(
        lambda row: eigenvalue_flow(name, row), (lam,), order=1, rtol=1e-6
    )
    assert eigenvalue_flow(name, lam.astype(jnp.float32)).dtype == jnp.float32


@pytest.mark.parametrize(
    ("arguments", "settings", "message"),
    [
        (("euclid", [0.1]), {}, "iso_euclidean"),
        (("cosine", [0.1, 0.0]), {}, "positive"),
        (("cosine", [0.1, -1.0]), {}, "positive"),
        (("cosine", [0.1, np.nan]), {}, "positive"),
        (("cosine", [0.1]), {"alpha": 0.0}, "alpha=0.0"),
        (("cosine", [0.1]), {"rate": -1.0}, "rate=-1.0"),
        (("cosine", [np.inf]), {}, "finite"),
        (("euclidean", [0.1]), {"view_noise": (-0.1, 0)}, "view_noise=-0.1 is not"),
        (("euclidean", [0.1]), {"view_noise": 0.1}, "not a pair"),
        (("iso_cosine", [0.1]), {"view_noise": (0.0, -0.1)}, "view_noise=-0.1"),
        (("cosine", [0.1]), {"view_noise": (0.1, 0.2, 0.3)}, "not a pair"),
        (("cosine", [0.1]), {"view_noise": jnp.array([-0.1, 0.0])}, "view_noise=-0.1"),
        (("cosine", [0.1]), {"view_noise": None}, "view_noise=None is not a pair"),
        (("cosine", [0.1]), {"weight_decay": -0.1}, "weight_decay=-0.1 is not"),
        (("cosine", [0.1]), {"weight_decay": jnp.array(np.nan)}, "weight_decay=nan"),
        (("cosine", [0.1]), {"alpha": jnp.array(-1.0)}, "alpha=-1.0 is not"),
        (("cosine", [0.1]), {"alpha": np.float32(-1.0)}, "alpha=-1.0 is not"),
        (("cosine", [0.1]), {"alpha": jnp.ones(2)}, "alpha=[1. 1.] is not"),
        (("cosine", [0.1]), {"alpha": "1"}, "alpha=1 is not"),
        (("cosine", [0.1]), {"alpha": None}, "alpha=None is not"),
        ((["cosine"], [0.1]), {}, "iso_euclidean"),
    ],
)
def test_bad_input(arguments, settings, message):
    name, eigenvalues = arguments
    with pytest.raises(ValueError, match=re.escape(message)):
        eigenvalue_flow(name, jnp.array(eigenvalues), **settings)


@pytest.mark.parametrize("eigenvalues", [0.1, [[0.1, 0.2]], [1, 2], []])
def test_eigenvalues_are_a_vector_of_floats(eigenvalues):
    kind = float if eigenvalues == [] else None
    with pytest.raises(ValueError, match="eigenvalues must be a vector"):
        eigenvalue_flow("cosine", jnp.array(eigenvalues, kind))


def test_eigenvalues_are_numbers():
    with pytest.raises(ValueError, match="eigenvalues must be an array of numbers"):
        eigenvalue_flow("cosine", "0.1")


def test_settings_may_be_arrays():
    lam, noise = jnp.array([0.1, 0.5]), jnp.array([0.1, 0.2])
    expected = eigenvalue_flow("cosine", lam, alpha=0.5, view_noise=(0.1, 0.2))
    flow = eigenvalue_flow("cosine", lam, alpha=jnp.array(0.5), view_noise=noise)
    np.testing.assert_allclose(flow, expected, rtol=1e-14)

    @jax.jit
    def traced(alpha, noise):
        return eigenvalue_flow("cosine", lam, alpha=alpha, view_noise=noise)

    np.testing.assert_allclose(traced(0.5, noise), expected, rtol=1e-14)
    with pytest.raises(ValueError, match="alpha="):
        traced(jnp.ones(2), noise)
