import jax
import numpy as np
import pytest

from isojax.errors import UsageError
from isojax.targets.peaks import PEAKS, Peak
from isojax.training.step_cost import describe_profile, profile_step
from tests.training.small_run import narrow_config

pytestmark = pytest.mark.long


@pytest.fixture(scope="module")
def profile():
    return profile_step(narrow_config(), steps=2)


def test_the_operations_are_those_of_the_networks_and_a_little_more(profile):
    """By hand: convolutions of both views, online thrice and target once."""
    maps = {14: [(9, 1, 4)], 7: 4 * [(9, 4, 4)]}
    for side, inputs in ((4, 4), (2, 8), (1, 16)):
        outputs = 2 * inputs
        maps[side] = [(9, inputs, outputs), (1, inputs, outputs)]
        maps[side] += 3 * [(9, outputs, outputs)]
    forward = sum(
        2 * side**2 * kernel * inputs * outputs
        for side, layers in maps.items()
        for kernel, inputs, outputs in layers
    )
    images_a_device = 8 / jax.device_count()
    # The heads and the maps of the views are counted too.
    assert 1 < profile.flops / (2 * 4 * forward * images_a_device) < 1.5


def test_the_collectives_are_those_of_gradients_and_batch_statistics(profile):
    # BatchNorm gathers its statistics and sums their gradients.
    assert set(profile.collectives) == {"all-reduce", "all-gather"}
    assert "all-reduce" in describe_profile(profile, narrow_config())


def test_profile_without_a_cost_analysis_omits_the_bytes(profile):
    text = describe_profile(profile._replace(bytes_accessed=None), narrow_config())
    assert "operations" in text and "bytes" not in text


def test_utilisation_is_printed_if_the_peak_is_known(profile, monkeypatch):
    assert "utilisation" not in describe_profile(profile, narrow_config())
    kind = jax.devices()[0].device_kind
    rate = profile.flops / profile.seconds
    peak = Peak({"bfloat16": 4 * rate}, memory=1.0, bandwidth=1.0)
    monkeypatch.setitem(PEAKS, kind, peak)
    assert "utilisation  25.0% of" in describe_profile(profile, narrow_config())
    assert np.isfinite(rate)


def test_nothing_to_time_or_to_divide_is_refused():
    with pytest.raises(UsageError, match="--steps=0: set it above 0"):
        profile_step(narrow_config(), steps=0)
    with pytest.raises(UsageError, match="config.batch_size=6 is not divisible"):
        profile_step(narrow_config(batch_size=6), steps=1)
