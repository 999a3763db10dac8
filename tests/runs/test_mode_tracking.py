import numpy as np
import pytest

from isojax.runs.mode_tracking import match_modes, order_of_values


def rotation(angle):
    return np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]])


def orthogonal(dim, seed=0):
    return np.linalg.qr(np.random.default_rng(seed).normal(size=(dim, dim)))[0]


def test_modes_are_found_whatever_their_order_and_signs():
    modes = orthogonal(6)
    shuffle = np.array([3, 0, 5, 1, 4, 2])
    signs = np.array([1, -1, 1, -1, -1, 1])
    later = (modes * signs)[:, shuffle]
    order = match_modes(modes, later)
    np.testing.assert_array_equal(np.abs(later[:, order]), np.abs(modes))


def test_each_mode_gets_another_eigenvector():
    """Where two modes are nearest to one eigenvector the whole decides."""
    order = match_modes(orthogonal(5), orthogonal(5, seed=1))
    assert sorted(order) == [0, 1, 2, 3, 4]


@pytest.mark.parametrize(("degrees", "expected"), [(40, [0, 1]), (50, [1, 0])])
def test_a_mode_that_turns_is_followed_up_to_half_a_right_angle(degrees, expected):
    order = match_modes(np.eye(2), rotation(np.deg2rad(degrees)))
    np.testing.assert_array_equal(order, expected)


def test_crossing_eigenvalues_keep_their_modes():
    """Two eigenvalues cross, one grows: lines that are straight stay straight."""
    u, modes, tracked = orthogonal(3), None, []
    for t in np.linspace(0, 1, 7):
        values = np.array([1 + t, 1.55 - t / 2, 4.0])
        eigenvalues, eigenvectors = np.linalg.eigh(u * values @ u.T)
        order = np.arange(3) if modes is None else match_modes(modes, eigenvectors)
        modes = eigenvectors[:, order]
        tracked.append(eigenvalues[order])
    second_differences = np.diff(tracked, n=2, axis=0)
    np.testing.assert_allclose(second_differences, 0, atol=1e-12)
    assert tracked[0][0] < tracked[0][1] and tracked[-1][0] > tracked[-1][1]


def test_the_order_of_values_sorts_back():
    values = np.array([3.0, 1.0, 2.0, 2.0])
    order = order_of_values(values)
    assert sorted(order) == [0, 1, 2, 3]
    np.testing.assert_array_equal(np.sort(values)[order], values)


def test_wrong_shapes_are_refused():
    with pytest.raises(AssertionError, match="shape"):
        match_modes(np.eye(3), np.eye(2))
