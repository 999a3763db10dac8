"""What the programs of an evaluation do, compiled for each target."""

import json

import pytest

from benchmarks.accelerators import run_module

pytestmark = pytest.mark.accelerators


@pytest.fixture(
    scope="module", params=["gpu:h100:1", "gpu:h100:16", "tpu:v5e:2x2", "tpu:v4:2x2x2"]
)
def costs(request, tmp_path_factory):
    path = tmp_path_factory.mktemp("costs") / "costs.json"
    program = "tests.accelerators.evaluation_programs"
    finished = run_module(program, request.param, str(path))
    assert finished.returncode == 0, finished.stderr
    return json.loads(path.read_text())


def test_nothing_is_computed_in_64_bits_or_by_the_host(costs):
    for name, found in costs.items():
        assert not found["has_float64"], name
        assert found["host_calls"] == [], name


def test_features_and_neighbours_need_no_collective(costs):
    assert costs["features"]["collectives"] == {}
    assert costs["k-NN"]["collectives"] == {}


def test_sums_over_images_are_one_collective_and_not_one_an_array(costs):
    for name in ("linear readout", "products of features", "fine-tuning"):
        found = costs[name]["collectives"]
        number = sum(kind["number"] for kind in found.values())
        # One more for the request to stop of a step.
        most = 0 if costs[name]["devices"] == 1 else 2
        assert bool(most) <= number <= most, (name, found)


def test_fine_tuning_reuses_the_memory_of_its_state(costs):
    found = costs["fine-tuning"]
    assert found["aliased"] >= 0.99 * found["outputs"]


def test_neighbours_and_the_readout_are_computed_in_full_precision(costs):
    for name in ("k-NN", "linear readout", "products of features"):
        products = costs[name]["products"]
        assert products, name
        for product in products:
            assert (product["dtype"], product["precision"]) == ("f32", "highest")
