"""Runs in a bucket of an emulator that fails in the ways that buckets fail."""

import random
import shutil
import threading
import time
from http import HTTPStatus

import pytest

pytest.importorskip("gcsfs")

from isojax.errors import UsageError  # noqa: E402
from isojax.runs.bucket import Bucket  # noqa: E402
from isojax.runs.mirror import local_folder  # noqa: E402
from isojax.training.checkpoint import Checkpoints  # noqa: E402
from tests.reliability.gcs_server import GcsServer  # noqa: E402
from tests.reliability.runs import (  # noqa: E402
    assert_same_state,
    finish,
    record,
    start,
    wait_for,
)

pytestmark = [
    pytest.mark.slow,
    # The client's sockets are closed when the process ends.
    pytest.mark.filterwarnings("ignore::ResourceWarning"),
    pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning"),
]
EPOCHS = 6
LENGTH = f"--config.epochs={EPOCHS}"
OUTAGE = 30  # seconds


@pytest.fixture
def server():
    with GcsServer().running() as running:
        yield running


@pytest.fixture
def run(server, make_state):
    """The local folder of a run in the bucket, with checkpoints of steps 1 and 2."""
    with local_folder("gs://bkt/run", trains=True) as folder:
        with Checkpoints(folder) as checkpoints:
            checkpoints.save(make_state(1))
            checkpoints.save(make_state(2))
        yield folder


def copy_of(url, folder):
    """Downloads a whole run."""
    bucket = Bucket(url)
    bucket.download(bucket.find(), folder)
    return folder


@pytest.mark.parametrize("content", [b"", b"text\r", b"\r\n", b"\n--"])
def test_the_emulator_keeps_every_byte(server, content):
    bucket = Bucket("gs://bkt/run")
    bucket.write("name", content)
    assert bucket.read("name") == content


@pytest.mark.parametrize("kills", [5, 50])
def test_a_run_killed_repeatedly_ends_like_an_uninterrupted_one(
    server, tmp_path, kills, report_figure
):
    finish(tmp_path / "whole", LENGTH)
    chance, number, runs = random.Random(kills), 0, 0
    while number < kills:
        runs += 1
        url, is_finished = f"gs://bkt/runs/{runs}", False
        while not is_finished and number < kills:
            process = start(url, LENGTH)
            if chance.random() < 0.8:
                wait_for(process, ("epoch ", "The run in"))
                time.sleep(chance.uniform(0, 5))
            else:
                time.sleep(chance.uniform(0, 10))
            process.kill()
            process.communicate()
            number += 1
            is_finished = f"runs/{runs}/figures/learning.png" in server.names()
        finish(url, LENGTH)
        assert not [n for n in server.names() if "damaged" in n or "run.lock" in n]
        ended = copy_of(url, tmp_path / f"copy{runs}")
        assert record(ended) == record(tmp_path / "whole")
        assert_same_state(ended, tmp_path / "whole")
        shutil.rmtree(ended)
    report_figure(f"{kills} kills in {runs} runs in a bucket")


@pytest.mark.parametrize("kind", ["error", "silence", "credentials"])
def test_training_continues_during_an_outage_and_saves_at_the_next_interval(
    server, run, make_state, same, capsys, kind
):
    status = {
        "error": HTTPStatus.SERVICE_UNAVAILABLE,
        "silence": HTTPStatus.SERVICE_UNAVAILABLE,
        "credentials": HTTPStatus.UNAUTHORIZED,
    }[kind]
    ends = time.monotonic() + OUTAGE

    def fail(request, method):
        if time.monotonic() > ends:
            return None
        if kind == "silence":
            time.sleep(max(0, ends - time.monotonic()))
        return status

    with Checkpoints(run) as checkpoints:
        checkpoints.save(make_state(3))  # the first one is waited for
        server.fault, waited = fail, []
        ends = time.monotonic() + OUTAGE
        for step in range(4, 8):
            begin = time.monotonic()
            checkpoints.save(make_state(step))
            waited.append(time.monotonic() - begin)
            time.sleep(10)
        server.usual()
        checkpoints.wait()
        checkpoints.save(make_state(8))
    assert max(waited) < 1
    assert same(Checkpoints(run).restore(make_state(0)), make_state(8))
    printed = capsys.readouterr().out
    assert "Traceback" not in printed
    for line in printed.splitlines():
        assert line.startswith("The checkpoint of step")


@pytest.mark.parametrize("harm", ["flip", "truncate"])
def test_reads_that_return_other_bytes_are_found(
    server, run, make_state, same, harm, capsys
):
    def spoil(request, content):
        if "checkpoints%2F2%2F" not in request.full_url or len(content) < 100:
            return content
        if harm == "truncate":
            return content[:-1]
        return content[:50] + bytes([content[50] ^ 1]) + content[51:]

    server.spoil = spoil
    with local_folder("gs://bkt/run") as folder:
        restored = Checkpoints(folder).restore(make_state(0))
    assert same(restored, make_state(1))
    assert "step 2 in gs://bkt/run/checkpoints is damaged" in capsys.readouterr().out


@pytest.mark.parametrize("problem", ["missing", "not writable", "no credentials"])
def test_a_bucket_that_cannot_be_used_is_refused_before_the_first_step(server, problem):
    if problem != "missing":
        denied = {
            "not writable": HTTPStatus.FORBIDDEN,
            "no credentials": HTTPStatus.UNAUTHORIZED,
        }[problem]
        server.fault = lambda _, method: denied if method == "POST" else None
    url = f"gs://{'other' if problem == 'missing' else 'bkt'}/run"
    process = start(url, LENGTH)
    output, _ = process.communicate(timeout=300)
    assert process.returncode == 2
    last = output.strip().splitlines()[-1]
    assert last.startswith(f"error: --workdir={url} cannot be written (")
    assert "Traceback" not in output
    assert not server.names("run/")


def test_one_of_two_runs_that_start_at_once_wins(server):
    processes = [start("gs://bkt/run", "--config.epochs=1000") for _ in range(2)]
    while all(process.poll() is None for process in processes):
        time.sleep(0.1)
    winner, loser = sorted(processes, key=lambda process: process.poll() is not None)
    output, _ = loser.communicate()
    assert loser.returncode == 2
    assert f"in use by process {winner.pid} on" in output
    wait_for(winner, "epoch 1/")
    winner.kill()
    winner.communicate()


def test_a_thousand_old_checkpoints_are_listed_quickly(server, run, report_figure):
    for step in range(10, 1010):
        for name in ("checksums.json", *(f"arrays/d/{n}" for n in range(10))):
            path = f"run/checkpoints/{step}/{name}"
            server.add(path)
    begin, requests = time.monotonic(), server.requests
    with local_folder("gs://bkt/run") as folder:
        opened = time.monotonic()
        assert Checkpoints(folder).steps() == [1, 2, *range(10, 1010)]
    listed = time.monotonic()
    report_figure(
        f"1,002 checkpoints: opened in {opened - begin:.2f} s, listed in "
        f"{listed - opened:.2f} s, {server.requests - requests} requests"
    )
    assert listed - begin < 10


def test_a_run_that_loses_its_lease_ends(server):
    process = start("gs://bkt/run", "--config.epochs=1000")
    wait_for(process, "epoch 2/")
    server.add("run/run.lock/000009")
    killing = threading.Timer(120, process.kill)
    killing.start()
    output, _ = process.communicate()
    killing.cancel()
    assert process.returncode == 2
    assert "gs://bkt/run was taken over by another process" in output


def test_an_unknown_protocol_is_refused():
    with pytest.raises(UsageError, match="az://bkt/run is not supported"):
        with local_folder("az://bkt/run"):
            pass
