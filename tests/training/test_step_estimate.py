import jax
import pytest
from ml_collections import ConfigDict

from isojax.configs import digits
from isojax.errors import UsageError
from isojax.targets.peaks import PEAKS, Peak
from isojax.training.abstract_step import AbstractStep
from isojax.training.device_memory import check_memory, memory_in_message
from isojax.training.estimate_text import describe_estimate
from isojax.training.step_estimate import estimate_step
from isojax.training.synthetic_step import SyntheticStep


def small(**fields):
    config = ConfigDict(digits.get_config().to_dict())
    config.model.update({"width": 4, "hidden_dim": 8, "projection_dim": 4})
    config.batch_size = 8
    config.update(fields)
    return config


@pytest.fixture(scope="module")
def estimate():
    return estimate_step(small(), jax.devices())


def test_the_step_without_arrays_is_the_step_of_a_run():
    assert (
        AbstractStep(small(), jax.devices()).lower().as_text()
        == SyntheticStep(small()).lower().as_text()
    )


def test_the_state_is_donated_whole(estimate):
    costs = estimate.costs
    assert costs.aliased >= estimate.state > 0
    assert costs.arguments > estimate.state
    assert costs.memory >= costs.arguments


def test_convolutions_and_products_are_counted_by_precision(estimate):
    # ResNet-18 has 20 convolutions. Both views run forward and, except for the input
    # of the first, backward; the target only forward. On CPU some become products.
    products = estimate.costs.products
    network = [n for p, n in products.items() if p.precision == "default"]
    assert sum(network) >= 2 * (20 + 20 + 19 + 20)
    assert {p.kind for p in products} == {"convolution", "product"}
    assert {p.dtype for p in products} == {"f32"}
    assert {p.precision for p in products} == {"default", "highest"}


def test_the_text_has_what_was_found(estimate):
    text = describe_estimate(estimate)
    assert f"{jax.device_count()} × {estimate.costs.device}" in text
    for product, number in estimate.costs.products.items():
        assert f"{number} {product.kind}s in f32" in text
    for kind, found in estimate.costs.collectives.items():
        assert f"{found.number} {kind}" in text
    assert "roofline" not in text  # the peak of a CPU is not known


def test_the_roofline_is_the_slower_of_operations_and_bytes(estimate, monkeypatch):
    assert estimate.as_json()["roofline_seconds"] is None
    bandwidth = estimate.costs.bytes_accessed / 2
    peak = Peak({"float32": estimate.flops}, memory=1e12, bandwidth=bandwidth)
    monkeypatch.setitem(PEAKS, estimate.costs.device, peak)
    assert estimate.as_json()["roofline_seconds"] == pytest.approx(2)
    assert "2,000.00 ms, 4 images/s" in describe_estimate(estimate)


def test_a_batch_that_the_devices_do_not_share_evenly_is_refused():
    with pytest.raises(UsageError, match="config.batch_size=6 .* 4 devices; set .*=4$"):
        AbstractStep(small(batch_size=6), jax.devices())


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
