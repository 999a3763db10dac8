"""What the programs of an evaluation do, compiled for each target."""

import json
import subprocess
import sys

import pytest

from benchmarks.accelerators import ROOT

pytestmark = pytest.mark.accelerators


@pytest.fixture(
    scope="module", params=["gpu:h100:1", "gpu:h100:16", "tpu:v5e:2x2", "tpu:v4:2x2x2"]
)
def costs(request, tmp_path_factory):
    path = tmp_path_factory.mktemp("costs") / "costs.json"
    program = [sys.executable, "-m", "tests.accelerators.evaluation_programs"]
    subprocess.run([*program, request.param, path], cwd=ROOT, check=True)
    return json.loads(path.read_text())


def test_nothing_is_computed_in_64_bits_or_by_the_host(costs):
    for name, found in costs.items():
        assert not found["has_float64"], name
        assert found["host_calls"] == [], name


def test_features_and_neighbours_need_no_collective(costs):
    assert costs["features"]["collectives"] == {}
    assert costs["k-NN"]["collectives"] == {}


def test_neighbours_are_compared_in_full_precision(costs):
    assert {
        (product["dtype"], product["precision"])
        for product in costs["k-NN"]["products"]
    } == {("f32", "highest")}
