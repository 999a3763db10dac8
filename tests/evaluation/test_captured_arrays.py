"""Arrays are arguments of compiled programs, never constants inside them."""

import re

import jax
import numpy as np
import pytest

from isojax.configs import digits
from isojax.data import Split
from isojax.evaluation import extract_features, finetune, finetuning
from isojax.evaluation.protocols import PROTOCOLS
from isojax.progress import SILENT
from tests.evaluation.protocol_inputs import inputs_of

_LARGEST = 4096  # bytes; tables of a few numbers are constants
_CONSTANT = re.compile(r'dense<"0x([0-9A-F]+)"')  # as a program's text writes it


@pytest.fixture
def constants(tmp_path):
    """Gives bytes of the largest constant of each program compiled so far, by text."""
    jax.config.update("jax_dump_ir_to", str(tmp_path))

    def largest():
        return {
            text: max(map(len, _CONSTANT.findall(text)), default=0) / 2
            for text in (path.read_text() for path in tmp_path.iterdir())
        }

    yield largest
    jax.config.update("jax_dump_ir_to", None)


def test_a_captured_array_is_found(constants):
    table = np.random.default_rng(0).normal(size=(200, 100)).astype(np.float32)
    jax.jit(lambda x: x @ table)(np.ones((1, 200), np.float32))
    assert max(constants().values()) > _LARGEST


def test_readout_and_neighbours_capture_nothing(constants):
    rng = np.random.default_rng(0)
    features = rng.normal(size=(1503, 37)).astype(np.float32)
    labels = np.arange(1503, dtype=np.int32) % 3
    inputs = inputs_of(features[:1100], labels[:1100], features[1100:], labels[1100:])
    for name in ("linear", "knn"):
        PROTOCOLS[name].measure(inputs, SILENT)
    found = constants()
    for rows in ("<4x275x38xf32", "<1100x37xf32"):  # readout, neighbours
        assert any(rows in program for program in found), rows
    assert max(found.values()) < _LARGEST


def test_features_and_fine_tuning_capture_nothing(constants, monkeypatch):
    monkeypatch.setattr(finetuning, "_FEWEST_STEPS", 1)
    monkeypatch.setattr(finetuning, "LEARNING_RATES", (0.1,))
    rng = np.random.default_rng(0)
    images = rng.integers(0, 256, (70, 28, 28, 1), dtype=np.uint8)
    split = Split(images, np.arange(70, dtype=np.int32) % 2)
    kernel = rng.normal(size=(784, 61)).astype(np.float32)

    def apply(variables, images):
        flat = images.reshape(len(images), -1).astype(np.float32)
        return flat @ variables["params"]["kernel"]

    variables = {"params": {"kernel": kernel}, "batch_stats": {}}
    extract_features(apply, variables, images)
    augment = digits.get_config().augment
    finetune(apply, variables, split, split, augment=augment, epochs=1)
    found = constants()
    assert sum("x28x28x1xui8" in program for program in found) >= 2
    assert max(found.values()) < _LARGEST
