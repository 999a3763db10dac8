import numpy as np
import pytest

from isojax.runs.mode_tracking import match_modes, order_of_values


def rotation(angle):
    return np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]])


def orthogonal(dim, seed=0):
    return np.linalg.qr(np.random.default_rng(seed).normal(size=(dim, dim)))[0]


def match(modes, later, values=None, later_values=None):
    """Matches modes, by default with equal eigenvalues."""
    ones = np.ones(len(modes))
    return match_modes(
        modes,
        later,
        previous_values=ones if values is None else values,
        values=ones if later_values is None else later_values,
    )


def test_modes_are_found_whatever_their_order_and_signs():
    modes = orthogonal(6)
    shuffle = np.array([3, 0, 5, 1, 4, 2])
    signs = np.array([1, -1, 1, -1, -1, 1])
    later = (modes * signs)[:, shuffle]
    order = match(modes, later)
    np.testing.assert_array_equal(np.abs(later[:, order]), np.abs(modes))


def test_each_mode_gets_another_eigenvector():
    """Where two modes are nearest to one eigenvector the whole decides."""
    order = match(orthogonal(5), orthogonal(5, seed=1))
    assert sorted(order) == [0, 1, 2, 3, 4]


@pytest.mark.parametrize(("degrees", "expected"), [(40, [0, 1]), (50, [1, 0])])
def test_a_mode_that_turns_is_followed_up_to_half_a_right_angle(degrees, expected):
    order = match(np.eye(2), rotation(np.deg2rad(degrees)))
    np.testing.assert_array_equal(order, expected)


def follow(matrices):
    """Returns the eigenvalues of matrices in the order of the modes."""
    modes, tracked = None, []
    for matrix in matrices:
        eigenvalues, eigenvectors = np.linalg.eigh(matrix)
        order = np.arange(len(matrix))
        if modes is not None:
            order = match(modes, eigenvectors, tracked[-1], eigenvalues)
        modes = eigenvectors[:, order]
        tracked.append(eigenvalues[order])
    return np.array(tracked)


def test_crossing_eigenvalues_keep_their_modes():
    """Two eigenvalues cross, one grows: lines that are straight stay straight."""
    u = orthogonal(3)
    tracked = follow(
        u * np.array([1 + t, 1.55 - t / 2, 4.0]) @ u.T for t in np.linspace(0, 1, 7)
    )
    np.testing.assert_allclose(np.diff(tracked, n=2, axis=0), 0, atol=1e-12)
    assert tracked[0][0] < tracked[0][1] and tracked[-1][0] > tracked[-1][1]


def test_a_mode_that_doubles_every_epoch_keeps_its_index_among_constant_modes():
    u, constant = orthogonal(6), [0.5, 0.9, 1.5, 3.0, 6.0]
    tracked = follow(u * np.array([0.1 * 2**e, *constant]) @ u.T for e in range(8))
    np.testing.assert_allclose(tracked[:, 0], 0.1 * 2.0 ** np.arange(8))


@pytest.mark.parametrize("degrees", [70, 80, 90, 260, 620])
def test_modes_that_rotate_fast_in_their_plane_keep_their_eigenvalues(degrees):
    """Two decaying modes, whose eigenvectors are nearly exchanged in every epoch."""
    u, matrices = orthogonal(4), []
    for epoch in range(20):
        turned = np.eye(4)
        turned[1:3, 1:3] = rotation(np.deg2rad(degrees * epoch))
        decay = 0.95**epoch
        axes = u @ turned
        matrices.append(axes * np.array([0.1, 0.3 * decay, 0.55 * decay, 2.0]) @ axes.T)
    assert (np.diff(np.log(follow(matrices)), axis=0) > -0.1).all()
    assert (np.diff(np.log(follow(matrices)), axis=0) < 1e-6).all()


def test_the_order_of_values_sorts_back():
    values = np.array([3.0, 1.0, 2.0, 2.0])
    order = order_of_values(values)
    assert sorted(order) == [0, 1, 2, 3]
    np.testing.assert_array_equal(np.sort(values)[order], values)


def test_wrong_shapes_are_refused():
    with pytest.raises(AssertionError, match="shape"):
        match(np.eye(3), np.eye(2))
    with pytest.raises(AssertionError, match="shape"):
        match(np.eye(3), np.eye(3), later_values=np.ones(2))
