import pytest

from isojax.errors import UsageError
from isojax.targets.names import TPU_SLICES, parse_target


@pytest.mark.parametrize(
    ("name", "shape", "chips"),
    [
        ("tpu:v5e:2x2", (2, 2), 4),
        ("tpu:v5e:16x16", (16, 16), 256),
        ("tpu:v4:2x2x4", (2, 2, 4), 16),
        ("gpu:h100:1", (1,), 1),
        ("gpu:h100:16", (16,), 16),
    ],
)
def test_a_target_has_a_shape(name, shape, chips):
    target = parse_target(name)
    assert (target.shape, target.chips) == (shape, chips)
    assert name.startswith(f"{target.platform}:{target.kind}")


@pytest.mark.parametrize(
    "name", ["", "cpu", "tpu", "tpu:v1:2x2", "gpu:a1:8", "v5e:2x2"]
)
def test_an_unknown_target_lists_the_known_ones(name):
    with pytest.raises(UsageError) as raised:
        parse_target(name)
    for kind in (*TPU_SLICES, "h100"):
        assert f":{kind}:" in str(raised.value)


def test_a_slice_that_is_not_offered_lists_those_that_are():
    with pytest.raises(UsageError) as raised:
        parse_target("tpu:v4:3x3x3")
    assert all(shape in str(raised.value) for shape in TPU_SLICES["v4"])


@pytest.mark.parametrize("count", ["", "0", "3", "12", "8x", "-8", "08", "100000"])
def test_gpus_come_in_whole_machines(count):
    with pytest.raises(UsageError, match=f"--target=gpu:h100:{count}: .* 8"):
        parse_target(f"gpu:h100:{count}")
