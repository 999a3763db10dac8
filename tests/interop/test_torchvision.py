import jax
import jax.numpy as jnp
import numpy as np
import pytest

from isojax.errors import UsageError
from isojax.interop import from_torchvision_state_dict, torchvision_state_dict
from isojax.models import ResNet18, ResNet34, ResNet50
from tests.interop import reference

REFERENCE = dict(np.load(reference.FEATURES))
DEEPER = dict(np.load(reference.DEEPER))
NETWORKS = {"resnet34": ResNet34, "resnet50": ResNet50}
STEMS = {
    "small": {},
    "imagenet": {"kernel_size": 7, "stride": 2, "max_pool": True},
    "solo_learn": {"padding": 2},
}


def theirs(stem):
    shapes = reference.shapes_of(REFERENCE, stem)
    return {name: reference.draw(name, shape) for name, shape in shapes.items()}


def ours(network=ResNet18, **stem):
    """Variables in which no two numbers are alike."""
    network = network(**stem)
    channels = 1 if stem["kernel_size"] == 5 else 3
    images = jax.ShapeDtypeStruct((1, 32, 32, channels), jnp.float32)
    shapes = jax.eval_shape(network.init, jax.random.key(0), images)
    rng = np.random.default_rng(0)
    return jax.tree.map(lambda s: rng.normal(size=s.shape).astype(s.dtype), shapes)


@pytest.fixture
def small():
    return torchvision_state_dict(ours(width=2, kernel_size=3))


@pytest.mark.parametrize("stem", STEMS)
def test_features_are_those_of_torchvision(stem):
    variables = from_torchvision_state_dict(theirs(stem))
    images = reference.draw_images(stem)
    features = jax.jit(ResNet18(**STEMS[stem]).apply)(variables, images)
    expected = REFERENCE[f"{stem}_features"]
    assert np.std(expected) > 0.1
    np.testing.assert_allclose(features, expected, rtol=0, atol=1e-4)


@pytest.mark.parametrize("name", NETWORKS)
def test_features_of_deeper_networks_are_those_of_torchvision(name):
    last_norm = reference.LAST_NORM[name]
    shapes = reference.shapes_of(DEEPER, name)
    variables = from_torchvision_state_dict(
        {n: reference.draw(n, s, last_norm=last_norm) for n, s in shapes.items()}
    )
    network = NETWORKS[name](width=reference.DEEPER_WIDTH, **STEMS["imagenet"])
    features = jax.jit(network.apply)(variables, reference.draw_images(name))
    expected = DEEPER[f"{name}_features"]
    assert 0.1 < np.std(expected) < 10
    np.testing.assert_allclose(features, expected, rtol=0, atol=1e-4)


@pytest.mark.parametrize("name", NETWORKS)
def test_names_and_shapes_of_deeper_networks_are_torchvisions(name):
    shapes = jax.eval_shape(
        NETWORKS[name](**STEMS["imagenet"]).init,
        jax.random.key(0),
        jnp.zeros((1, 32, 32, 3)),
    )
    # Arrays that occupy no memory.
    variables = jax.tree.map(lambda s: np.broadcast_to(np.float32(0), s.shape), shapes)
    state_dict = torchvision_state_dict(variables)
    expected = reference.shapes_of(DEEPER, f"whole_{name}")
    assert [(n, a.shape) for n, a in state_dict.items()] == list(expected.items())


@pytest.mark.parametrize("name", NETWORKS)
def test_export_and_import_of_deeper_networks_change_nothing(name):
    variables = ours(width=2, kernel_size=3, network=NETWORKS[name])
    returned = from_torchvision_state_dict(torchvision_state_dict(variables))
    jax.tree.map(np.testing.assert_array_equal, returned, variables)


def test_another_networks_variables_have_no_names():
    variables = ours(width=2, kernel_size=3)
    variables["params"]["head"] = {"kernel": np.zeros((2, 2))}
    with pytest.raises(UsageError, match="params/head/kernel .* no name"):
        torchvision_state_dict(variables)


@pytest.mark.parametrize("stem", ["small", "imagenet"])
def test_names_and_shapes_are_torchvisions(stem):
    kernel_size = STEMS[stem].get("kernel_size", 3)
    state_dict = torchvision_state_dict(ours(width=64, kernel_size=kernel_size))
    assert {name: a.shape for name, a in state_dict.items()} == (
        reference.shapes_of(REFERENCE, stem)
    )
    assert list(state_dict) == list(reference.shapes_of(REFERENCE, stem))
    for name, array in state_dict.items():
        assert array.flags["C_CONTIGUOUS"] and array.flags["WRITEABLE"]
        is_count = name.endswith("num_batches_tracked")
        assert array.dtype == (np.int64 if is_count else np.float32)


@pytest.mark.parametrize(("width", "kernel_size"), [(3, 3), (4, 7), (2, 5)])
def test_export_and_import_change_nothing(width, kernel_size):
    variables = ours(width=width, kernel_size=kernel_size)
    returned = from_torchvision_state_dict(torchvision_state_dict(variables))
    jax.tree.map(np.testing.assert_array_equal, returned, variables)


def test_torchs_tensors_are_taken_without_torch(small):
    class Tensor:
        """As NumPy sees one that has a gradient and 16 bits."""

        def __init__(self, array):
            self.array = array

        def __array__(self, *_, **__):
            raise TypeError("call detach, cpu and float first")

        detach = cpu = float = lambda self: self
        numpy = lambda self: self.array  # noqa: E731

    tensors = {name: Tensor(array) for name, array in small.items()}
    returned = torchvision_state_dict(from_torchvision_state_dict(tensors))
    jax.tree.map(np.testing.assert_array_equal, returned, small)


def test_the_classifier_is_ignored_and_the_counts_may_be_missing(small):
    small = {n: a for n, a in small.items() if not n.endswith("num_batches_tracked")}
    small |= {"fc.weight": np.zeros((10, 16)), "fc.bias": np.zeros(10)}
    variables = from_torchvision_state_dict(small)
    assert variables["params"]["conv"]["kernel"].shape == (3, 3, 3, 2)


@pytest.mark.parametrize(
    ("name", "shape", "message"),
    [
        (
            "layer2.0.downsample.0.weight",
            (4, 2, 3, 3),
            r"is \(4, 2, 3, 3\) in the state dict and \(4, 2, 1, 1\) in ResNet-18",
        ),
        ("layer3.1.bn2.running_var", None, r"is missing .* and \(8,\) in ResNet-18"),
        ("layer1.2.conv1.weight", (2, 2, 3, 3), r"is \(2, 2, 3, 3\) .* and missing in"),
        ("conv1.weight", (2, 3, 3), r"is \(2, 3, 3\) .* and \(width, channels, k, k\)"),
        ("conv1.weight", None, "is missing in the state dict"),
    ],
)
def test_another_networks_weights_are_refused(small, name, shape, message):
    if shape is None:
        del small[name]
    else:
        small[name] = np.zeros(shape)
    with pytest.raises(UsageError, match=f"^{name} {message}"):
        from_torchvision_state_dict(small)
