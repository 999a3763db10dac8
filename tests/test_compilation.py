import ctypes
import os
import warnings

import jax
import pytest
from scipy.linalg import cython_lapack

from isojax import compilation
from isojax.compilation import prune_compilation_cache


@pytest.fixture
def cache_setting(monkeypatch):
    """The place of JAX's cache, restored after the test."""
    names = ("jax_compilation_cache_dir", "jax_persistent_cache_min_compile_time_secs")
    before = {name: getattr(jax.config, name) for name in names}
    monkeypatch.setattr(compilation.atexit, "register", lambda *_: None)
    yield
    for name, value in before.items():
        jax.config.update(name, value)


def test_lapack_uses_one_thread(monkeypatch):
    monkeypatch.setenv("XLA_FLAGS", os.environ["XLA_FLAGS"])  # restored after the test
    lapack = ctypes.CDLL(cython_lapack.__file__)
    lapack.scipy_openblas_set_num_threads(2)
    compilation.configure_cpu()
    assert lapack.scipy_openblas_get_num_threads() == 1


def test_the_programs_used_longest_ago_are_deleted(tmp_path):
    for age, name in enumerate(("new", "read", "old")):
        path = tmp_path / f"{name}-cache"
        path.write_bytes(bytes(100))
        os.utime(path, (1e9 - age, 1e9 - age))
    os.utime(tmp_path / "read-cache", (2e9, 1e9 - 1))
    prune_compilation_cache(tmp_path, 300)
    assert len(list(tmp_path.iterdir())) == 3
    prune_compilation_cache(tmp_path, 299)
    assert {path.name for path in tmp_path.iterdir()} == {"new-cache", "read-cache"}
    prune_compilation_cache(tmp_path, 150)
    assert {path.name for path in tmp_path.iterdir()} == {"read-cache"}
    prune_compilation_cache(tmp_path / "missing", 0)


def test_a_cache_that_is_too_large_is_pruned_at_the_start(
    tmp_path, cache_setting, monkeypatch
):
    jax.config.update("jax_compilation_cache_dir", None)
    folder = tmp_path / compilation.FOLDER
    folder.mkdir()
    with open(folder / "large-cache", "wb") as file:
        file.truncate(compilation.MOST_BYTES + 1)  # takes no space on the disk
    (folder / "small-cache").write_bytes(bytes(10))
    with warnings.catch_warnings():
        compilation.enable_compilation_cache(tmp_path / "run")
        assert jax.config.jax_compilation_cache_dir == str(folder)
        assert not (folder / "large-cache").exists()
        # A full disk says so once for every program.
        message = "Error writing persistent compilation cache entry for 'jit_f': OSErr"
        warnings.warn(message, stacklevel=1)


def test_a_cache_that_the_user_has_set_is_left_alone(tmp_path, cache_setting):
    jax.config.update("jax_compilation_cache_dir", str(tmp_path / "mine"))
    with warnings.catch_warnings():
        compilation.enable_compilation_cache(tmp_path / "run")
    assert jax.config.jax_compilation_cache_dir == str(tmp_path / "mine")
