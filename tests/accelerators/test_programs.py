"""What the programs of `benchmarks.accelerators` do, compiled for each target."""

import importlib

import jax
import pytest

from benchmarks.accelerators import PROGRAMS, compile_program
from isojax.targets.peaks import peak_of
from isojax.training.assembly import first_state
from isojax.training.synthetic_step import synthetic_dataset

pytestmark = pytest.mark.accelerators

# Collectives of a few numbers: labelled images, standard deviation, request to stop.
SMALL_COLLECTIVES = 4


@pytest.fixture(scope="module", params=PROGRAMS, ids=lambda program: program.name)
def program(request):
    return request.param


@pytest.fixture(scope="module")
def result(program):
    found = compile_program(program)
    assert "error" not in found
    return found


@pytest.fixture(scope="module")
def config(program):
    name, preset = program.config.split(":")
    return importlib.import_module(f"isojax.configs.{name}").get_config(preset)


@pytest.fixture(scope="module")
def state(config):
    return jax.eval_shape(lambda: first_state(config, synthetic_dataset(config)))


def size(tree):
    return sum(leaf.size * leaf.dtype.itemsize for leaf in jax.tree.leaves(tree))


def test_the_step_fits_in_the_memory_of_a_device(result):
    assert 0 < result["memory"] < peak_of(result["device"]).memory


def test_the_whole_state_is_donated(result, state):
    assert result["state"] == size(state)
    assert result["aliased"] >= result["state"]


def test_nothing_is_computed_in_64_bits_or_by_the_host(result):
    assert not result["has_float64"]
    assert result["host_calls"] == []


def test_convolutions_take_the_configured_precision(program, result):
    name = {"bfloat16": "bf16", "float32": "f32"}[program.precision]
    dtypes = {
        product["dtype"]
        for product in result["products"]
        if product["kind"] == "convolution"
    }
    assert dtypes == {name}


def test_products_outside_of_the_network_have_the_highest_precision(result):
    kinds = {(p["dtype"], p["precision"]) for p in result["products"]}
    assert ("f32", "highest") in kinds
    assert ("bf16", "highest") not in kinds


def test_collectives_are_those_of_statistics_gradients_and_correlation(
    result, config, state
):
    found = result["collectives"]
    if result["devices"] == 1:
        assert found == {}
        return
    # Both views run forward and backward, and those of a moving target forward.
    forward = 4 if config.method.target == "ema" else 2
    online = jax.tree.leaves(state.batch_stats)
    statistics = len(online) // 2  # mean and variance of each layer
    passes = config.microbatches * (forward + 2)
    number = sum(kind["number"] for kind in found.values())
    assert number <= statistics * passes + config.microbatches + 1 + SMALL_COLLECTIVES
    # Gradients and the correlation are summed once; statistics are a few kilobytes.
    summed = size(state.params) + config.microbatches * size(state.correlation)
    gathered = result["devices"] * 4 * size(state.batch_stats) * passes
    assert sum(kind["bytes"] for kind in found.values()) <= 1.02 * summed + gathered
