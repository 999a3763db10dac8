"""Runs in a bucket, which is in the memory of this process."""

import io
import json
import tempfile
import threading
from pathlib import Path

import jax
import numpy as np
import pytest

from isojax.errors import UsageError
from isojax.runs import lease, mirror
from isojax.runs.bucket import Bucket
from isojax.runs.history import History
from isojax.runs.mirror import local_folder
from isojax.stopping import StopRequest
from isojax.training import epochs, load_encoder, loop, pretrain
from isojax.training.bucket_steps import BucketSteps
from isojax.training.checkpoint import Checkpoints
from tests.training.small_run import small_config

URL = "memory://bkt/runs/small"


@pytest.fixture
def bucket(memory_bucket):
    return memory_bucket


def state_of(workdir, like):
    with local_folder(workdir) as folder:
        return Checkpoints(folder).restore(like)


def assert_same_encoder(finished):
    with local_folder(URL) as folder:
        stored = load_encoder(folder)[1]
    jax.tree.map(np.testing.assert_array_equal, stored, load_encoder(finished)[1])


def record(bucket):
    rows = [json.loads(line) for line in bucket.read("metrics.jsonl").splitlines()]
    with np.load(io.BytesIO(bucket.read("spectrum.npz"))) as spectrum:
        return [row["step"] for row in rows], spectrum["eigenvalues"]


@pytest.mark.long
@pytest.mark.usefixtures("small_run")
def test_a_killed_run_in_a_bucket_ends_like_one_in_a_local_folder(
    bucket, finished, monkeypatch, capsys
):
    check_collapse = epochs._check_collapse

    def kill(context, *args):
        if (context.workdir / "metrics.jsonl").read_text().count("\n") == 2:
            context.checkpoints.wait()
            raise KeyboardInterrupt
        return check_collapse(context, *args)

    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(epochs, "_check_collapse", kill)
        pretrain(small_config(), URL)
    assert record(bucket)[0] == [3, 6]
    assert pretrain(small_config(), URL) == URL
    assert_same_encoder(finished)
    names = set(bucket.find())
    local = {p.relative_to(finished).as_posix() for p in finished.rglob("*.*")}
    without_checkpoints = {n for n in names if not n.startswith("checkpoints/")}
    assert without_checkpoints == {
        name
        for name in local
        if not name.startswith(("checkpoints/", "run.lock", "tensorboard"))
    } | {n for n in names if n.startswith("tensorboard")}
    steps, eigenvalues = record(bucket)
    assert steps == [3, 6, 9]
    with np.load(finished / "spectrum.npz") as spectrum:
        np.testing.assert_array_equal(eigenvalues, spectrum["eigenvalues"])
    printed = capsys.readouterr().out
    assert f"Run folder: {URL}." in printed
    assert tempfile.gettempdir() not in printed
    assert not list(Path(tempfile.gettempdir()).glob("isojax-bucket-*/in_use"))


@pytest.mark.slow
@pytest.mark.usefixtures("small_run")
def test_a_run_that_is_stopped_or_taken_over_ends(bucket, monkeypatch):
    stop = StopRequest()
    train = loop.train

    def taken_over(context, *args):
        bucket.create("run.lock/000002", b"{}")
        monkeypatch.setattr(lease, "RENEWED_SECONDS", 0.01)
        stop.is_set = True
        train(context, *args)

    monkeypatch.setattr(loop, "train", taken_over)
    with pytest.raises(UsageError, match=f"{URL} was taken over"):
        pretrain(small_config(), URL, stop=stop)
    assert not [name for name in bucket.find() if name.endswith("checksums.json")]
    assert "run.lock/000002" in bucket.find()


@pytest.mark.slow
@pytest.mark.usefixtures("small_run")
def test_a_fork_into_a_bucket_and_from_it(bucket, finished, tmp_path):
    config = small_config()
    config.epochs = 4
    pretrain(config, URL, fork_from=finished)
    pretrain(config, URL, fork_from=finished)  # resumed: finished
    assert record(bucket)[0] == [3, 6, 9, 12]
    config.epochs = 5
    pretrain(config, tmp_path / "run", fork_from=URL)
    stored = json.loads((tmp_path / "run" / "config.json").read_text())
    assert stored["forked_from"] == {"workdir": URL, "step": 12}


def test_other_files_or_another_config_are_refused(bucket):
    bucket.write("notes.txt", b"mine")
    with pytest.raises(UsageError, match=f"{URL} contains files but no run"):
        pretrain(small_config(), URL)
    assert set(bucket.find()) == {"notes.txt"}


def test_checkpoints_in_a_bucket_are_pruned_and_set_aside(
    bucket, make_state, same, capsys
):
    with local_folder(URL, trains=True) as folder:
        with Checkpoints(folder, keep_last=2) as checkpoints:
            checkpoints.check_writable(make_state(0))
            assert not bucket.find("checkpoints")
            bucket.write("checkpoints/7/arrays/left", b"by a killed process")
            for step in (1, 2, 3):
                checkpoints.save(make_state(step))
                checkpoints.wait()
        assert checkpoints.steps() == [2, 3]
        folders = {name.split("/")[1] for name in bucket.find("checkpoints")}
        assert folders == {"2", "3"}
        data = next(n for n in bucket.find("checkpoints/3") if "/d/" in n)
        content = bytearray(bucket.read(data))
        content[len(content) // 2] ^= 1
        bucket.write(data, bytes(content))
        restored = Checkpoints(folder).restore(make_state(0), set_aside=True)
        assert same(restored, make_state(2))
    printed = capsys.readouterr().out
    assert f"step 3 in {URL}/checkpoints is damaged" in printed
    assert "set aside as 3.damaged." in printed
    assert same(state_of(URL, make_state(0)), make_state(2))
    assert {name.split("/")[1] for name in bucket.find("checkpoints")} == {
        "2",
        "3.damaged",
    }


def test_a_transfer_that_fails_once_is_repeated(bucket, make_state, same, monkeypatch):
    with local_folder(URL, trains=True) as folder:
        with Checkpoints(folder) as checkpoints:
            checkpoints.save(make_state(1))
    download, calls = Bucket.download, []

    def truncate(self, names, folder):
        names = list(names)
        download(self, names, folder)
        data = [folder / name for name in names if "/d/" in name]
        if data and not calls:
            data[0].write_bytes(data[0].read_bytes()[:-1])
        calls.extend(data[:1])

    monkeypatch.setattr(Bucket, "download", truncate)
    assert same(state_of(URL, make_state(0)), make_state(1))
    assert len(calls) == 2


def test_training_never_waits_for_an_upload(bucket, make_state, capsys, monkeypatch):
    write, free = BucketSteps.write, threading.Event()

    def write_slowly(self, step, arrays):
        if step > 1:
            free.wait(20)
        write(self, step, arrays)

    monkeypatch.setattr(BucketSteps, "write", write_slowly)
    with local_folder(URL, trains=True) as folder:
        with Checkpoints(folder) as checkpoints:
            for step in (1, 2):
                checkpoints.save(make_state(step))
            while not checkpoints._writing.running():
                pass
            for step in (3, 4):
                checkpoints.save(make_state(step))
            free.set()
        assert checkpoints.steps() == [2, 4]
    assert "checkpoint of step 3 was skipped" in capsys.readouterr().out


def test_the_bucket_never_has_fewer_metrics_than_spectra(bucket, monkeypatch):
    seen = []

    def check():
        if "spectrum.npz" in bucket.find():
            steps, eigenvalues = record(bucket)
            seen.append((len(steps), len(eigenvalues)))
            assert len(steps) >= len(eigenvalues)

    write, delete = Bucket.write, Bucket.delete
    monkeypatch.setattr(
        Bucket, "write", lambda self, *args: (write(self, *args), check())
    )
    monkeypatch.setattr(
        Bucket, "delete", lambda self, *args: (delete(self, *args), check())
    )
    with local_folder(URL, trains=True) as folder:
        history = History(folder)
        for epoch in range(1, 5):
            history.append({"step": epoch, "epoch": epoch}, np.ones(3))
            mirror.upload(folder)
    for kept in (2, 0):
        with local_folder(URL, trains=True) as folder:
            History(folder, epochs=kept)
            mirror.upload(folder)
    assert (4, 4) in seen and (4, 2) in seen and (2, 2) in seen
    assert "spectrum.npz" not in bucket.find()
