"""Removes the modules of an earlier build, then builds from pyproject.toml.

setuptools copies the modules to `build/lib` and deletes none of them, so that a wheel
would contain modules that have been deleted since an earlier build.
"""

import shutil
from pathlib import Path

from setuptools import setup

shutil.rmtree(Path(__file__).parent / "build" / "lib", ignore_errors=True)
setup()
