from importlib import metadata

import pytest

from isojax.errors import UsageError
from isojax.targets import environment
from isojax.targets.environment import prepare, required_version
from isojax.targets.names import parse_target

TPU, GPU = parse_target("tpu:v5e:2x2"), parse_target("gpu:h100:8")


@pytest.fixture
def library(tmp_path):
    """Returns a function that installs an empty libtpu of a version."""

    def install(version):
        path = tmp_path / "libtpu" / "libtpu.so"
        path.parent.mkdir()
        path.touch()
        about = tmp_path / f"libtpu-{version}.dist-info"
        about.mkdir()
        (about / "METADATA").write_text(f"Name: libtpu\nVersion: {version}\n")
        return {"TPU_LIBRARY_PATH": str(path)}

    return install


@pytest.fixture
def plugins(monkeypatch, tmp_path):
    """Returns a function that pretends that the plugins of a version are installed."""
    real = metadata.version
    monkeypatch.setattr(
        environment, "_toolkit_candidates", lambda variables: [tmp_path]
    )

    def install(version):
        monkeypatch.setattr(
            metadata,
            "version",
            lambda name: version if name.startswith("jax-cuda13") else real(name),
        )
        (tmp_path / "bin").mkdir()
        (tmp_path / "bin" / "ptxas").touch()
        (tmp_path / "nvvm").mkdir()

    return install


def test_the_library_of_the_version_that_jax_needs_is_accepted(library):
    variables = library(required_version("libtpu").replace("*", "7"))
    prepare(TPU, variables)
    assert variables["JAX_PLATFORMS"] == "cpu"
    assert variables["TPU_SKIP_MDS_QUERY"] == "1"
    assert "XLA_FLAGS" not in variables


def test_a_library_of_another_version_is_refused(library):
    with pytest.raises(UsageError) as raised:
        prepare(TPU, library("0.0.1"))
    assert "libtpu 0.0.1 does not fit jax" in str(raised.value)
    assert f"'libtpu=={required_version('libtpu')}'" in str(raised.value)


def _not_installed(name):
    raise metadata.PackageNotFoundError(name)


def test_a_library_that_is_missing_is_named(monkeypatch, tmp_path):
    with pytest.raises(UsageError, match="TPU_LIBRARY_PATH=.* is not a file; pip inst"):
        prepare(TPU, {"TPU_LIBRARY_PATH": str(tmp_path / "libtpu.so")})
    monkeypatch.setattr(metadata, "version", _not_installed)
    with pytest.raises(UsageError, match="needs libtpu; pip install"):
        prepare(TPU, {})


def test_the_gpu_plugin_is_checked_and_the_toolkit_passed_to_xla(plugins, tmp_path):
    plugins(required_version("jax-cuda13-plugin"))
    variables = {"XLA_FLAGS": "--xla_dump_to=x", "TF_CPP_MIN_LOG_LEVEL": "2"}
    prepare(GPU, variables)
    flags = variables["XLA_FLAGS"].split()
    assert flags[0] == "--xla_dump_to=x"
    assert f"--xla_gpu_cuda_data_dir={tmp_path}" in flags
    assert "TPU_ACCELERATOR_TYPE" not in variables


def test_a_plugin_of_another_version_is_refused(plugins):
    plugins("0.9.0")
    with pytest.raises(UsageError) as raised:
        prepare(GPU, {})
    needed = required_version("jax-cuda13-plugin")
    assert f"jax-cuda13-plugin=={needed} jax-cuda13-pjrt=={needed}" in str(raised.value)


def test_a_missing_plugin_and_a_missing_toolkit_are_named(
    monkeypatch, plugins, tmp_path
):
    plugins(required_version("jax-cuda13-plugin"))
    (tmp_path / "bin" / "ptxas").unlink()
    with pytest.raises(UsageError, match="pip install nvidia-cuda-nvcc nvidia-nvvm"):
        prepare(GPU, {})
    monkeypatch.setattr(metadata, "version", _not_installed)
    with pytest.raises(UsageError, match="needs jax-cuda13-plugin; pip install"):
        prepare(GPU, {})


@pytest.mark.parametrize("package", ["libtpu", "jax-cuda13-plugin"])
def test_jax_names_the_versions_that_it_needs(package):
    assert required_version(package)[0].isdigit()
