import jax
import jax.numpy as jnp
import numpy as np
import pytest

from isojax.dynamics import simulate_network, solve_eigenvalues, toys, velocities
from isojax.dynamics.flow import eigenvalue_flow
from isojax.dynamics.network_step import LOSSES

pytestmark = pytest.mark.usefixtures("x64")


@pytest.mark.long
@pytest.mark.parametrize(
    ("metric", "samples", "tolerance"),
    [("euclidean", 20_000, 5e-3), ("cosine", 5_000, 0.05)],
)
def test_theory_lies_on_the_simulation(metric, samples, tolerance):
    names = [name for name in LOSSES if metric in name]
    curves = toys.eigenvalue_curves(
        jax.random.key(0),
        names=names,
        inputs=6,
        outputs=3,
        steps=75,
        steps_per_row=2,
        samples=samples,
    )
    assert list(curves) == names
    for name, curve in curves.items():
        assert curve.simulation.shape == curve.theory.shape == (75, 3)
        rate = toys.learning_rate(name)
        np.testing.assert_allclose(curve.times, rate * np.arange(75))
        assert curve.distance == np.abs(curve.simulation - curve.theory).max()
        np.testing.assert_allclose(curve.theory[0], curve.simulation[0], rtol=1e-6)
        np.testing.assert_allclose(
            curve.theory, curve.simulation, atol=tolerance, err_msg=name
        )
        if name in ("iso_euclidean", "iso_cosine"):  # more than nothing has happened
            assert np.abs(curve.theory[-1] - curve.theory[0]).max() > 0.15


@pytest.mark.long
@pytest.mark.parametrize("metric", ["euclidean", "cosine"])
def test_theory_holds_without_stop_gradient_where_there_is_no_noise(metric):
    name = f"{metric}_no_stop_gradient"
    weights = jnp.zeros((3, 6)).at[:, :3].set(jnp.diag(jnp.array([0.2, 0.7, 0.85])))
    simulation = simulate_network(
        name,
        weights,
        steps=200,
        learning_rate=0.02,
        view_noise=(0.0, 0.0),
        samples=5_000,
        key=jax.random.key(0),
    ).eigenvalues
    times = 0.02 * jnp.arange(200)
    theory = solve_eigenvalues(name, simulation[0], times)
    np.testing.assert_allclose(simulation, theory, atol=0.01)
    assert np.abs(theory[-1] - theory[0]).max() > 0.03


@pytest.mark.long
def test_a_collapse_is_followed_in_single_precision():
    name = "cosine_no_stop_gradient"
    with jax.enable_x64(False):
        starts = jnp.array([[0.1, 0.5], [0.6, 0.9]])
        portrait = toys.eigenvalue_portrait(name, starts, points=2, time=40.0)
        curves = toys.initialization_curves(
            jax.random.key(0), names=[name], starts=1, steps=300, samples=10
        )
    theory = curves[name][0].theory
    for solution in (portrait.trajectories, theory):
        assert solution.dtype == jnp.float32
        # The cosine losses keep the sum.
        total = solution.sum(axis=-1)
        np.testing.assert_allclose(total / total[..., :1], 1, rtol=1e-5)


def test_a_linear_network_has_no_more_outputs_than_inputs():
    with pytest.raises(ValueError, match="outputs=3 .*inputs=2"):
        toys.eigenvalue_curves(jax.random.key(0), inputs=2, outputs=3)


def test_a_relu_network_has_no_theory():
    curves = toys.eigenvalue_curves(
        jax.random.key(0), names=["cosine"], activation="relu", steps=3, samples=100
    )
    assert curves["cosine"].theory is None
    assert curves["cosine"].simulation.shape == (3, 10)


def test_every_start_has_its_curves():
    curves = toys.initialization_curves(
        jax.random.key(0), names=["euclidean"], starts=2, steps=3, samples=100
    )
    first, second = curves["euclidean"]
    assert first.simulation.shape == (3, 2)
    assert np.abs(first.simulation - second.simulation).min() > 1e-3


def test_eigenvalue_portrait():
    starts = jnp.array([[0.1, 0.5], [1.2, 0.9]])
    portrait = toys.eigenvalue_portrait("iso_euclidean", starts, points=5, time=2.0)
    np.testing.assert_allclose(portrait.trajectories[:, 0], starts)
    for row, column in ((0, 3), (4, 1)):
        flow = eigenvalue_flow(
            "iso_euclidean", jnp.stack([portrait.x[column], portrait.x[row]])
        )
        np.testing.assert_allclose(portrait.dx[row, column], flow[0])
        np.testing.assert_allclose(portrait.dy[row, column], flow[1])


def test_trained_networks_keep_to_their_modes():
    starts = jnp.array([[0.1, 0.8], [0.9, 0.3]])
    trained = toys.two_neuron_trajectories(
        "iso_euclidean", starts, jax.random.key(0), steps=100
    )
    np.testing.assert_allclose(trained[:, 0], starts)
    portrait = toys.eigenvalue_portrait("iso_euclidean", starts, time=0.99)
    np.testing.assert_allclose(trained[:, -1], portrait.trajectories[:, -1], atol=0.02)


def test_representation_portrait():
    eigenvalues = jnp.array([0.3, 1.2])
    start = jnp.array([[0.3, 1.0]])
    portrait = toys.representation_portrait(
        "euclidean", eigenvalues, start, points=5, time=2.0
    )
    z = jnp.stack([portrait.x[3], portrait.x[1]])
    velocity = velocities.euclidean(z, z, eigenvalues)
    np.testing.assert_allclose(
        [portrait.dx[1, 3], portrait.dy[1, 3]], velocity, rtol=1e-12
    )
    growth = np.exp(np.asarray(eigenvalues * (1 - eigenvalues)) * 2.0 * 1999 / 2000)
    np.testing.assert_allclose(portrait.trajectories[0, -1], start[0] * growth, 1e-6)


def test_weak_modes_gain_by_the_iso_loss():
    initial = jnp.array([0.01, 0.5])
    times = {
        name: toys.convergence_times(name, initial, tolerance=0.1, longest=200.0)
        for name in ("euclidean", "iso_euclidean")
    }
    # The logistic passes 0.9 at log(9 (1 - lam) / lam) / 2.
    exact = np.log(9 * (1 - initial) / initial) / 2
    np.testing.assert_allclose(times["iso_euclidean"], exact, rtol=0.01)
    assert times["euclidean"][0] > 10 * times["iso_euclidean"][0]
    assert np.isinf(toys.convergence_times("euclidean", initial, longest=0.1)).all()
