import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from isojax import losses
from isojax.predictor import direct_predictor, update_correlation

DIM = 4
SPECTRA = {
    "distinct": [0.1, 0.5, 1.0, 3.0],
    "repeated": [0.5, 0.5, 2.0, 2.0],
    "identity": [1.0, 1.0, 1.0, 1.0],
    "singular": [0.0, 0.0, 0.2, 1.5],
    "zero": [0.0, 0.0, 0.0, 0.0],
}
# Compiled once for each setting; that eager calls agree has its own test.
compiled_predictor = jax.jit(
    direct_predictor, static_argnames=("alpha", "epsilon", "normalize", "clip_max")
)
all_spectra = pytest.mark.parametrize("spectrum", SPECTRA)


def make_correlation(spectrum="distinct"):
    u, _ = np.linalg.qr(np.random.default_rng(0).normal(size=(DIM, DIM)))
    return jnp.asarray((u * np.array(SPECTRA[spectrum])) @ u.T)


def make_predictor(correlation, **hyperparameters):
    """The predictor's four parts as NumPy arrays."""
    return map(np.asarray, compiled_predictor(correlation, **hyperparameters))


def make_projections(*shape):
    return jnp.asarray(np.random.default_rng(1).normal(size=(*shape, DIM)))


def test_predictor_equals_value_computed_by_hand():
    # Eigenvalues 4 and 16 along (1, -1) and (1, 1); the power 1/2 gives 2 and 4.
    predictor = compiled_predictor(jnp.array([[10.0, 6.0], [6.0, 10.0]]))
    np.testing.assert_allclose(predictor.eigenvalues, [2, 4], rtol=1e-6)
    np.testing.assert_allclose(predictor.matrix, [[3, 1], [1, 3]], rtol=1e-6)
    a, b = (2 + 2**0.5) / 2, (2 - 2**0.5) / 2
    np.testing.assert_allclose(predictor.root, [[a, b], [b, a]], rtol=1e-6)
    np.testing.assert_allclose(
        jnp.abs(predictor.eigenvectors), np.full((2, 2), 0.5**0.5), rtol=1e-6
    )


@all_spectra
@pytest.mark.parametrize("alpha", [0.5, 1.0, 2.0])
def test_predictor_is_a_power_of_the_correlation(spectrum, alpha, x64):
    c = make_correlation(spectrum)
    matrix, root, lam, u = make_predictor(c, alpha=alpha)
    np.testing.assert_allclose(lam, np.power(SPECTRA[spectrum], alpha), atol=1e-7)
    np.testing.assert_allclose(u.T @ u, np.eye(DIM), atol=1e-13)
    np.testing.assert_allclose((u * lam) @ u.T, matrix, atol=1e-13)
    np.testing.assert_allclose(root @ root, matrix, atol=1e-13)
    c = np.asarray(c)
    power, same = {0.5: (matrix @ matrix, c), 1.0: (matrix, c), 2.0: (matrix, c @ c)}[
        alpha
    ]
    np.testing.assert_allclose(power, same, atol=1e-13)


@all_spectra
def test_direct_copy_is_the_normalised_correlation_plus_a_quarter(spectrum, x64):
    c = make_correlation(spectrum)
    matrix = compiled_predictor(c, alpha=1.0, epsilon=0.25, normalize=True).matrix
    largest = max(SPECTRA[spectrum]) or 1.0
    np.testing.assert_allclose(matrix, c / largest + 0.25 * np.eye(DIM), atol=1e-14)


def test_epsilon_is_added_before_the_power(x64):
    lam = compiled_predictor(
        jnp.diag(jnp.array([1.0, 4.0])), alpha=2.0, epsilon=0.5, normalize=True
    ).eigenvalues
    np.testing.assert_allclose(lam, [0.75**2, 1.5**2], rtol=1e-14)


@pytest.mark.parametrize("bad", [0.0, jnp.nan, jnp.inf])
@pytest.mark.parametrize("normalize", [False, True])
def test_empty_or_broken_correlation_gives_a_finite_predictor(bad, normalize):
    c = np.zeros((DIM, DIM)) if bad == 0 else np.eye(DIM)
    c[1, 2] = bad
    matrix, root, lam, u = make_predictor(c, epsilon=0.25, normalize=normalize)
    expected = 0.5 if normalize else 0.0
    np.testing.assert_array_equal(lam, np.full(DIM, expected))
    np.testing.assert_allclose(matrix, expected * np.eye(DIM), atol=1e-7)
    np.testing.assert_allclose(root, expected**0.5 * np.eye(DIM), atol=1e-7)
    np.testing.assert_allclose(u.T @ u, np.eye(DIM), atol=1e-7)


def test_eigenvalues_are_clipped_from_below_and_above():
    c = jnp.diag(jnp.array([4.0, -1.0, 1e8]))
    lam = compiled_predictor(c).eigenvalues
    np.testing.assert_allclose(lam, [0, 2, 1e3], rtol=1e-6)
    lam = compiled_predictor(c, alpha=1.0, clip_max=8.0, normalize=True).eigenvalues
    np.testing.assert_allclose(lam, [0, 0.5, 1], rtol=1e-6)


def test_only_the_symmetric_part_counts(x64):
    c = make_correlation()
    skew = jnp.triu(jnp.ones((DIM, DIM)), 1)
    np.testing.assert_allclose(
        compiled_predictor(c + skew - skew.T).matrix,
        compiled_predictor(c).matrix,
        atol=1e-14,
    )


def test_predictor_agrees_under_jit_and_vmap(x64):
    c = np.stack([make_correlation(name) for name in SPECTRA])
    eager = [direct_predictor(matrix).matrix for matrix in c]
    jitted = [jax.jit(direct_predictor)(matrix).matrix for matrix in c]
    mapped = jax.jit(jax.vmap(direct_predictor))(c).matrix
    np.testing.assert_allclose(jitted, eager, atol=1e-7)
    np.testing.assert_allclose(mapped, eager, atol=1e-7)


def test_hyperparameters_may_be_traced():
    c = make_correlation()
    traced = jax.jit(lambda alpha: direct_predictor(c, alpha=alpha).matrix)
    np.testing.assert_allclose(
        traced(0.7), direct_predictor(c, alpha=0.7).matrix, atol=1e-6
    )


def through_predictor(z1, z2, c, projections, name):
    """A loss whose predictor is built from the projections, as a training step does."""
    matrix, root, *_ = direct_predictor(update_correlation(c, projections, decay=0.3))
    return {
        "cosine": losses.cosine_loss(z1 @ matrix, z2),
        "iso_cosine": losses.iso_cosine_loss(z1, z1 @ matrix, z1 @ root, z2),
    }[name].sum()


@all_spectra
@pytest.mark.parametrize("name", ["cosine", "iso_cosine"])
def test_no_gradient_passes_through_the_predictor(spectrum, name):
    c = make_correlation(spectrum)
    z1, z2 = make_projections(2, 8)
    gradients = jax.jit(jax.grad(through_predictor, (0, 2, 3)), static_argnums=4)
    into_z1, into_c, into_projections = gradients(z1, z2, c, z1, name)
    np.testing.assert_array_equal(into_c, 0)
    np.testing.assert_array_equal(into_projections, 0)
    assert jnp.isfinite(into_z1).all() and jnp.abs(into_z1).min() > 0


@pytest.mark.parametrize("name", ["cosine", "iso_cosine"])
def test_gradient_would_pass_through_the_predictor_if_not_stopped(name, monkeypatch):
    monkeypatch.setattr(jax.lax, "stop_gradient", lambda x: x)
    z1, z2 = make_projections(2, 8)
    # A fresh function, for jit remembers what it traced before.
    unstopped = jax.jit(functools.partial(through_predictor, name=name))
    into_c, into_projections = jax.grad(unstopped, (2, 3))(
        z1, z2, make_correlation(), z1
    )
    assert jnp.abs(into_c).min() > 0 and jnp.abs(into_projections).min() > 0


def test_correlation_itself_is_stopped_before_the_product():
    gradient = jax.grad(lambda z: update_correlation(jnp.eye(DIM), z, decay=0.3).sum())(
        make_projections(8)
    )
    np.testing.assert_array_equal(gradient, 0)


def test_correlation_equals_value_computed_by_hand():
    z = jnp.array([[1.0, 2.0], [3.0, 0.0]])
    updated = update_correlation(jnp.array([[8.0, 0.0], [0.0, 4.0]]), z, decay=0.25)
    # Z^T Z / 2 = [[5, 1], [1, 2]], uncentred.
    np.testing.assert_allclose(updated, [[5.75, 0.75], [0.75, 2.5]], rtol=1e-6)


def test_decay_is_the_fraction_of_the_old_value_kept():
    c, z = make_correlation(), make_projections(8)
    np.testing.assert_array_equal(update_correlation(c, z, decay=1.0), c)
    np.testing.assert_allclose(
        update_correlation(c, z, decay=0.0), z.T @ z / 8, rtol=1e-5, atol=1e-6
    )
    steps = 0 * c
    for _ in range(5):
        steps = update_correlation(steps, z, decay=0.3)
    np.testing.assert_allclose(
        steps, (1 - 0.3**5) * (z.T @ z) / 8, rtol=1e-5, atol=1e-6
    )


def test_leading_axes_are_more_rows():
    c, views = make_correlation(), make_projections(2, 8)
    np.testing.assert_array_equal(
        update_correlation(c, views, decay=0.3),
        update_correlation(c, jnp.concatenate(views), decay=0.3),
    )


@pytest.mark.parametrize("map_devices", [jax.pmap, jax.vmap])
def test_correlation_over_devices_is_that_of_the_global_batch(map_devices, x64):
    devices = jax.device_count() if map_devices is jax.pmap else 4
    c, z = make_correlation(), make_projections(devices * 3)

    def update(shard):
        return update_correlation(c, shard, decay=0.3, axis_name="devices")

    updated = map_devices(update, axis_name="devices")(z.reshape(devices, 3, DIM))
    expected = update_correlation(c, z, decay=0.3)
    for on_device in updated:
        np.testing.assert_allclose(on_device, expected, rtol=1e-13, atol=1e-14)


@pytest.mark.parametrize("dtype", [jnp.bfloat16, jnp.float16])
def test_low_precision_projections_accumulate_in_float32(dtype):
    z = jnp.full((3000, 1), 1.0, dtype) + jnp.asarray(0.0078125, dtype)
    updated = update_correlation(jnp.zeros((1, 1)), z, decay=0.0)
    assert updated.dtype == jnp.float32
    np.testing.assert_allclose(updated, [[1.0078125**2]], rtol=1e-6)
    low = update_correlation(jnp.zeros((1, 1), dtype), z, decay=0.0)
    assert low.dtype == direct_predictor(low.astype(dtype)).matrix.dtype == jnp.float32


def test_float64_projections_leave_a_float32_state_float32(x64):
    c = make_correlation().astype(jnp.float32)
    assert update_correlation(c, make_projections(8), decay=0.3).dtype == jnp.float32


@pytest.mark.parametrize(
    ("correlation", "projections", "named"),
    [
        ((4, 3), (8, 4), r"\(4, 3\).*\(4, 4\)"),
        ((4, 4), (8, 3), r"\(8, 3\).*\(\.\.\., None, 4\)"),
        ((4, 4), (4,), r"\(4,\).*\(\.\.\., None, 4\)"),
    ],
)
def test_wrong_shapes_are_refused(correlation, projections, named):
    with pytest.raises(AssertionError, match=named):
        update_correlation(jnp.ones(correlation), jnp.ones(projections), decay=0.3)


@pytest.mark.parametrize("shape", [(4, 3), (4,)])
def test_predictor_of_a_matrix_that_is_not_square_is_refused(shape):
    with pytest.raises(AssertionError, match=r"\(4,"):
        direct_predictor(jnp.ones(shape))


@pytest.mark.parametrize(
    "wrong",
    [{"alpha": 0.0}, {"alpha": -1}, {"alpha": float("nan")}, {"epsilon": -0.1}]
    + [{"clip_max": 0.0}, {"clip_max": np.float32(-1)}],
)
def test_wrong_hyperparameters_are_refused_with_the_remedy(wrong):
    ((name, value),) = wrong.items()
    with pytest.raises(ValueError, match=rf"{name}={value}.*choose {name} >"):
        direct_predictor(jnp.eye(2), **wrong)


@pytest.mark.parametrize("decay", [-0.1, 1.1, float("nan")])
def test_wrong_decay_is_refused_with_the_remedy(decay):
    with pytest.raises(ValueError, match=rf"decay={decay}.*\[0, 1\]"):
        update_correlation(jnp.eye(2), jnp.ones((3, 2)), decay=decay)
