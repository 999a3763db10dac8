import numpy as np
import pytest

from isojax.dynamics.toys import Curves, Portrait
from isojax.reporting import toys


def curves(has_theory=True):
    times = np.linspace(0, 1, 4)
    values = np.linspace(0.1, 1, 8).reshape(4, 2)
    return Curves(times, values, values if has_theory else None)


def portrait():
    x = np.linspace(0.1, 1, 3)
    field = np.zeros((3, 3))
    return Portrait(x, field, field + 1, np.ones((2, 5, 2)))


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("euclidean", "Euclidean"),
        ("iso_cosine", "Iso-cosine"),
        ("cosine_no_stop_gradient", "Cosine, no stop-gradient"),
        ("euclidean_no_predictor", "Euclidean, no predictor"),
    ],
)
def test_titles(name, words):
    assert toys.title(name) == words


def test_each_loss_has_its_panel():
    names = [
        "euclidean",
        "cosine",
        "iso_cosine",
        "iso_euclidean",
        "cosine_no_predictor",
    ]
    figure = toys.draw_eigenvalue_curves({name: curves() for name in names})
    assert [axis.get_title() for axis in figure.axes] == [toys.title(n) for n in names]
    solid, dashed = figure.axes[0].lines[:2]
    np.testing.assert_array_equal(solid.get_xdata(), dashed.get_xdata())
    assert {line.get_linestyle() for line in (solid, dashed)} == {"-", "--"}


def test_the_legend_omits_a_missing_theory():
    figure = toys.draw_eigenvalue_curves({"cosine": curves(has_theory=False)})
    assert len(figure.axes[0].lines) == 2
    (legend,) = figure.legends
    assert [text.get_text() for text in legend.get_texts()] == ["trained network"]


def test_figures_are_drawn(tmp_path):
    times = {
        name: np.array([2.0, 1.0])
        for name in ("euclidean", "iso_euclidean", "cosine", "iso_cosine")
    }
    figures = [
        toys.draw_initialization_curves({"cosine": [curves(), curves()]}),
        toys.draw_eigenvalue_portraits({"cosine": portrait()}),
        toys.draw_eigenvalue_portraits(
            {"cosine": portrait()}, {"cosine": [np.ones((3, 2))]}
        ),
        toys.draw_representation_portraits({"cosine": portrait()}, [0.3, 1.2]),
        toys.draw_convergence_times(np.array([0.1, 0.5]), times),
    ]
    for number, figure in enumerate(figures):
        path = tmp_path / f"{number}.png"
        figure.savefig(path)
        assert path.stat().st_size > 5_000
        for axis in figure.axes:
            assert axis.get_xlabel() or axis not in figure.axes[-1:]
