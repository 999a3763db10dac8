"""A run in a bucket is read, reported, exported and evaluated."""

import json
from pathlib import Path

import numpy as np
import pytest
from flax.traverse_util import flatten_dict
from safetensors.numpy import load

from isojax.errors import UsageError
from isojax.evaluation import Options, evaluate_run
from isojax.interop.export_files import export_run
from isojax.reporting.html_report import write_report
from isojax.runs.bucket import Bucket
from isojax.runs.stored_run import read_run
from isojax.training import load_encoder

OLD_RUN = Path(__file__).parent / "old_run"


@pytest.fixture
def url(memory_bucket):
    """The URL of a run that is finished."""
    for path in OLD_RUN.rglob("*"):
        if path.is_file():
            memory_bucket.write(path.relative_to(OLD_RUN).as_posix(), path.read_bytes())
    return memory_bucket.url


def test_a_run_is_read_and_reported(url, memory_bucket):
    run = read_run(url)
    assert (run.last["epoch"], run.last["step"], run.checkpoints) == (2, 6, [8])
    before = set(memory_bucket.find())
    assert write_report([url]) == f"{url}/report.html"
    page = memory_bucket.read("report.html").decode()
    assert f"{url}: " in page and "isojax-bucket-" not in page
    assert set(memory_bucket.find()) >= before
    assert not run.folder.exists()


def test_a_run_is_exported_into_its_bucket(url, memory_bucket):
    _, variables = load_encoder(url)
    names = [f"{url}/encoder.safetensors", f"{url}/encoder.safetensors.md"]
    assert list(export_run(url, file_format="safetensors")) == names
    stored = load(memory_bucket.read("encoder.safetensors"))
    for name, array in flatten_dict(variables["params"], sep="/").items():
        np.testing.assert_array_equal(stored[f"params/backbone/{name}"], array)
    assert "isojax-bucket-" not in memory_bucket.read(names[1][len(url) + 1 :]).decode()
    other = "memory://bkt/weights.msgpack"
    assert export_run(url, file_format="flax", output=other)[0] == other


def test_a_bucket_without_a_run_is_named(memory_bucket):
    with pytest.raises(UsageError, match=f"there is no run in {memory_bucket.url}"):
        read_run(memory_bucket.url)


def test_a_bucket_that_cannot_be_written_is_not_evaluated(url, monkeypatch):
    def refuse(*_):
        raise OSError(13, "forbidden")

    monkeypatch.setattr(Bucket, "write", refuse)
    with pytest.raises(UsageError, match=f"{url} is not writable .forbidden"):
        evaluate_run(url)


@pytest.mark.slow
def test_a_run_is_evaluated(url, memory_bucket):
    result = evaluate_run(url, options=Options(protocols=("knn",)))
    stored = json.loads(memory_bucket.read("linear_eval.json"))
    assert stored["knn_accuracy"] == result["knn_accuracy"]
