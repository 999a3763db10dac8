import jax
import jax.numpy as jnp
import pytest

from isojax import data_parallel
from isojax.errors import UsageError
from isojax.targets.peaks import PEAKS, Peak
from isojax.targets.program_costs import compile_program
from isojax.targets.program_facts import Product
from isojax.training.abstract_step import AbstractStep
from isojax.training.device_memory import check_memory, memory_in_message
from isojax.training.estimate_text import describe_estimate
from isojax.training.step_estimate import StepEstimate, estimate_step
from isojax.training.synthetic_step import SyntheticStep
from tests.training.small_run import narrow_config


@pytest.fixture(scope="module")
def costs():
    """Costs of a small program with a state, a convolution and a collective."""

    def step(state, batch, _):
        images = jax.lax.conv(batch["x"], state["kernel"], (1, 1), "SAME")
        product = jnp.matmul(state["w"], state["w"], precision="highest")
        kernel = jax.lax.pmean(images.mean(), data_parallel.AXIS) + state["kernel"]
        return {"bias": state["bias"] + 1, "kernel": kernel, "w": product}, ()

    def shape(*sides):
        return jax.ShapeDtypeStruct(sides, jnp.float32)

    devices = jax.devices()
    batch = data_parallel.split_shapes({"x": shape(8, 2, 5, 5)}, devices)
    state = {"bias": shape(7), "kernel": shape(2, 2, 3, 3), "w": shape(16, 16)}
    mapped = data_parallel.MappedStep(step, devices=devices)
    return compile_program(mapped.lower(state, batch, {}), devices)


@pytest.fixture
def estimate(costs):
    return StepEstimate(costs, 8, "float32", flops=1e6, state=4 * (7 + 36 + 256))


@pytest.mark.slow
def test_the_step_without_arrays_is_the_step_of_a_run():
    assert (
        AbstractStep(narrow_config(), jax.devices()).lower().as_text()
        == SyntheticStep(narrow_config()).lower().as_text()
    )


def test_a_compiled_program_is_measured(costs, estimate):
    # Besides the state, a device has two images and the request to stop.
    assert costs.arguments == estimate.state + 4 * (2 * 2 * 5 * 5) + 4
    assert estimate.state <= costs.aliased < costs.arguments
    assert costs.memory >= costs.arguments
    assert (costs.devices, costs.hosts) == (jax.device_count(), 1)
    assert set(costs.collectives) == {"all-reduce"}
    assert costs.products == {
        Product("convolution", "f32", "default"): 1,
        Product("product", "f32", "highest"): 1,
    }


def test_the_text_has_what_was_found(costs, estimate):
    text = describe_estimate(estimate)
    assert f"{costs.devices} × {costs.device}" in text
    assert "1 convolution in f32, 1 product in f32 at highest precision" in text
    assert f"{costs.collectives['all-reduce'].number} all-reduce" in text
    assert "roofline" not in text  # the peak of a CPU is not known


def test_the_roofline_is_the_slower_of_operations_and_bytes(
    costs, estimate, monkeypatch
):
    assert estimate.as_json()["roofline_seconds"] is None
    bandwidth = costs.bytes_accessed / 2
    peak = Peak({"float32": estimate.flops}, memory=1e12, bandwidth=bandwidth)
    monkeypatch.setitem(PEAKS, costs.device, peak)
    assert estimate.as_json()["roofline_seconds"] == pytest.approx(2)
    assert "2,000.00 ms, 4 images/s" in describe_estimate(estimate)


@pytest.mark.slow
def test_convolutions_of_a_step_are_counted():
    estimate = estimate_step(narrow_config(), jax.devices())
    # ResNet-18 has 20 convolutions. Both views run forward and, except for the input
    # of the first, backward; the target only forward. On CPU some become products.
    products = estimate.costs.products
    network = [n for p, n in products.items() if p.precision == "default"]
    assert sum(network) >= 2 * (20 + 20 + 19 + 20)
    assert {p.dtype for p in products} == {"f32"}
    assert estimate.costs.aliased >= estimate.state
    assert estimate.flops > 0


def test_a_batch_that_the_devices_do_not_share_evenly_is_refused():
    with pytest.raises(UsageError, match="config.batch_size=6 .* 4 devices; set .*=4$"):
        AbstractStep(narrow_config(batch_size=6), jax.devices())


def test_a_step_that_does_not_fit_says_by_how_much():
    check_memory(15e9, "TPU v5 lite", "bfloat16")
    with pytest.raises(UsageError, match="20.0 GB of the 16.0 GB .* 4.0 GB") as raised:
        check_memory(20e9, "TPU v5 lite", "float32")
    assert "config.microbatches" in str(raised.value)
    assert "config.precision=bfloat16" in str(raised.value)
    with pytest.raises(UsageError) as raised:
        check_memory(20e9, "TPU v5 lite", "bfloat16")
    assert "config.precision" not in str(raised.value)


@pytest.mark.parametrize(
    ("message", "sizes"),
    [
        (
            "RESOURCE_EXHAUSTED: E1000: CompileTimeHbmOom: Ran out of memory on HBM, "
            "the total memory required for HLO temporaries (95.5G) exceeds available "
            "HBM (15.75G). HLO module: jit__fun.",
            (95.5 * 2**30, 15.75 * 2**30),
        ),
        (
            "Ran out of memory in memory space hbm. Used 512M of 256M hbm.",
            (2**29, 2**28),
        ),
        ("INTERNAL: 3G of 4G", None),
        ("Ran out of memory", None),
    ],
)
def test_sizes_are_read_from_the_compilers_errors(message, sizes):
    assert memory_in_message(message) == sizes
