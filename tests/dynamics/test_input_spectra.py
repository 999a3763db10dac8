import jax
import numpy as np
import pytest

from isojax.dynamics.input_spectra import input_spectrum_curves


def test_the_leading_directions_of_the_inputs_win():
    variances = (4.0, 2.0, 0.25, 0.125)
    (found,) = input_spectrum_curves(
        jax.random.key(0),
        variances,
        names=["iso_euclidean"],
        outputs=2,
        rows=20,
        steps_per_row=50,
        samples=500,
    ).values()
    assert found.eigenvalues.simulation.shape == (20, 2)
    assert found.eigenvalues.distance < 0.02
    np.testing.assert_allclose(found.eigenvalues.theory[-1], 1, atol=0.01)
    # The squared weights become 1 / variance, or stay small.
    np.testing.assert_allclose(found.weights[-1, :2], [1 / 4, 1 / 2], rtol=0.1)
    assert (found.weights[-1, 2:] < 0.1).all()
    assert found.eigenvalues.times[-1] == pytest.approx(5)
