import json
from pathlib import Path

import jax
import numpy as np
import pytest

NOTEBOOKS = Path(__file__).parent.parent / "notebooks"
# What the cell tagged "parameters" is overridden by, where full settings take long.
SMALL = {
    "losses_and_predictor": {},
    "covariance": {"losses": ("iso_euclidean",), "samples": 100},
    "dynamics": {
        "samples": 100,
        "steps": 20,
        "longest": {"euclidean": 10.0, "cosine": 10.0},
    },
    "tangent_kernel": {"dimensions": (16, 64)},
    "trained_network": {"first_epoch": 0},
}


def cells(path):
    """Kind and text of the cells of a notebook in the percent format."""
    _, *parts = ("\n" + path.read_text()).split("\n# %%")
    for part in parts:
        header, _, text = part.partition("\n")
        is_markdown = "[markdown]" in header
        if is_markdown:
            text = "\n".join(line[2:] for line in text.strip().splitlines())
        yield "markdown" if is_markdown else "code", header, text.strip()


def test_every_notebook_is_known():
    assert {path.stem for path in NOTEBOOKS.glob("*.py")} == set(SMALL)


@pytest.mark.parametrize(
    "name",
    # These compile many losses and shapes; tests/dynamics tests what they call.
    [
        pytest.param("dynamics", marks=pytest.mark.slow),
        pytest.param("covariance", marks=pytest.mark.slow),
        pytest.param("trained_network", marks=pytest.mark.long),
        "losses_and_predictor",
        pytest.param("tangent_kernel", marks=pytest.mark.long),
    ],
)
def test_notebooks_run(name, tmp_path):
    parameters = dict(SMALL[name])
    if name == "trained_network":
        rng = np.random.default_rng(0)
        spectrum = np.sort(rng.uniform(0.1, 1, (4, 6)), axis=1)
        np.savez(tmp_path / "spectrum.npz", epoch=np.arange(4), eigenvalues=spectrum)
        parameters["workdir"] = tmp_path
    namespace = {"__name__": name}
    try:
        jax.config.update("jax_numpy_rank_promotion", "allow")  # as for a reader
        for kind, header, text in cells(NOTEBOOKS / f"{name}.py"):
            if kind == "code":
                exec(compile(text, f"{name}, {text[:40]!r}", "exec"), namespace)
            if "parameters" in header:
                assert set(parameters) <= set(namespace)
                namespace.update(parameters)
    finally:
        jax.config.update("jax_numpy_rank_promotion", "raise")
        jax.config.update("jax_enable_x64", False)  # which notebooks turn on


@pytest.mark.parametrize("name", SMALL)
def test_notebooks_match_their_py_sources(name):
    shown = json.loads((NOTEBOOKS / f"{name}.ipynb").read_text())["cells"]
    text = list(cells(NOTEBOOKS / f"{name}.py"))
    assert len(shown) == len(text), "run `make notebooks`"
    for cell, (kind, _, source) in zip(shown, text, strict=True):
        assert cell["cell_type"] == kind, "run `make notebooks`"
        # A magic is a comment in the text.
        shown_source = "".join(cell["source"]).replace("%matplotlib", "# %matplotlib")
        assert shown_source.strip() == source, "run `make notebooks`"


@pytest.mark.parametrize("name", SMALL)
def test_notebooks_are_short_and_light(name):
    kinds = [kind for kind, *_ in cells(NOTEBOOKS / f"{name}.py")]
    assert kinds.count("code") < 15
    assert (NOTEBOOKS / f"{name}.ipynb").stat().st_size < 600_000
