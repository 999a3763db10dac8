import numpy as np
import pytest

from isojax.dynamics.input_spectra import InputSpectrumCurves
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


def test_the_largest_distance_is_written_under_the_figure():
    near, far = curves(), curves()
    far = far._replace(simulation=far.theory + np.array([0.0, -0.25]))
    figure = toys.draw_eigenvalue_curves({"cosine": near, "iso_cosine": far})
    (legend,) = figure.legends
    assert legend.get_title().get_text().endswith("network and theory: 0.25")


def test_each_input_direction_has_its_curve():
    found = InputSpectrumCurves(curves(), np.ones((4, 3)))
    figure = toys.draw_input_spectrum_curves({"cosine": found}, (2.0, 1.0, 0.5))
    upper, lower = figure.axes
    assert upper.get_title() == "Cosine" and len(lower.lines) == 3
    assert [line.get_label() for line in lower.lines] == ["2", "1", "0.5"]


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
