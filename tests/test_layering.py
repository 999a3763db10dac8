"""Imports point only down the layers, and heavy ones stay where they belong."""

import ast
import subprocess
import sys
from pathlib import Path

import pytest

from isojax.commands.main import COMMANDS

ROOT = Path(__file__).parent.parent
LAYERS = {
    "cpu_cores": 0,
    "errors": 0,
    "fields": 0,
    "files": 0,
    "configs": 0,
    "invocation": 0,
    "launchers": 0,
    "output": 0,
    "progress": 0,
    "stopping": 0,
    "losses": 1,
    "predictor": 1,
    "spectral": 1,
    "schedules": 1,
    "dynamics": 1,
    "models": 2,
    "data": 2,
    "runs": 2,
    "training": 3,
    "evaluation": 3,
    "processes": 3,
    "data_parallel": 3,
    "targets": 3,
    "compilation": 3,
    "reporting": 3,
    "interop": 3,
    "sweeps": 4,
    "commands": 5,
    # Modules for `python -m`.
    **dict.fromkeys(("__main__", "export", "launch", "profile", "report", "sweep"), 6),
}
# Within the third layer, imports point from left to right only.
THIRD_LAYER = (
    "interop",
    "evaluation",
    "training",
    "reporting",
    "targets",
    "data_parallel",
    "processes",
    "compilation",
)
MODULES = sorted(path for path in (ROOT / "isojax").rglob("*.py"))


def imported(path):
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            yield node.module
            if node.module == "isojax":
                yield from (f"isojax.{alias.name}" for alias in node.names)


def part(name):
    """The part of isojax that a dotted module name belongs to, or None."""
    pieces = name.split(".")
    return pieces[1] if pieces[0] == "isojax" and len(pieces) > 1 else None


@pytest.mark.parametrize("path", MODULES, ids=lambda path: path.name)
def test_imports_point_down(path):
    here = path.relative_to(ROOT / "isojax").parts[0].removesuffix(".py")
    if here == "__init__":
        return
    for name in imported(path):
        there = part(name)
        if there is None or there == here:
            continue
        assert LAYERS[there] <= LAYERS[here], f"{path} imports {name}"
        if LAYERS[there] == LAYERS[here] == 3:
            assert THIRD_LAYER.index(here) < THIRD_LAYER.index(there), name


@pytest.mark.parametrize(
    ("library", "allowed"),
    [
        ("jinja2", {"reporting"}),
        ("PIL", {"data", "reporting"}),
        ("grain", {"data"}),
        ("simplejpeg", {"data"}),
        ("cykooz_resizer", {"data"}),
        ("umap", {"reporting"}),
        ("tensorflow", {"data"}),
        ("tensorflow_datasets", {"data"}),
        ("matplotlib", {"reporting"}),
        ("tensorboardX", {"training"}),
        ("wandb", {"training"}),
        ("orbax", {"training"}),
        ("scipy", {"compilation.py", "evaluation", "runs", "sweeps"}),
        ("diffrax", {"dynamics"}),
        ("safetensors", {"interop"}),
        ("fsspec", {"runs"}),
        ("gcsfs", {"runs"}),
        ("s3fs", {"runs"}),
    ],
)
def test_a_library_is_imported_in_few_parts(library, allowed):
    for path in MODULES:
        if any(name.split(".")[0] == library for name in imported(path)):
            assert path.relative_to(ROOT / "isojax").parts[0] in allowed, path


@pytest.mark.parametrize(
    ("name", "module"),
    [
        ("jax.pmap", "data_parallel.py"),
        ("jax.sharding", "data_parallel.py"),
        ("jax.distributed", "processes.py"),
        ("multihost_utils", "processes.py"),
    ],
)
def test_devices_and_processes_are_each_used_in_one_module(name, module):
    assert [path.name for path in MODULES if name in path.read_text()] == [module]


@pytest.mark.parametrize("command", COMMANDS)
def test_flags_are_parsed_before_jax_and_matplotlib_are_imported(command):
    program = (
        f"import sys; import isojax.commands.{command}\n"
        "assert not {'jax', 'matplotlib', 'tensorflow'} & set(sys.modules)"
    )
    subprocess.run([sys.executable, "-c", program], cwd=ROOT, check=True)
