"""Runs that decode files while training: killed, and on two processes."""

import pytest

from tests.data.image_files import write_images
from tests.reliability.runs import assert_same_state, finish, record, start, wait_for

LAUNCHER = ("-m", "isojax.launch", "--processes=2", "--")


@pytest.fixture(scope="module")
def flags(tmp_path_factory):
    folder = tmp_path_factory.mktemp("images")
    write_images(folder, per_class=60)
    write_images(folder, per_class=4, split="test", seed=1)
    return [
        "--config=cifar10:isoloss",
        f"--config.data.folder={folder}",
        "--config.data.streaming=True",
        "--config.data.resolution=16",
        "--config.data.validation_fraction=0",
        "--config.batch_size=8",
        "--config.epochs=3",
        "--config.optimizer.warmup_epochs=1",
    ]


@pytest.fixture(scope="module")
def whole(flags, tmp_path_factory):
    """A run of one process that nobody disturbed."""
    workdir = tmp_path_factory.mktemp("whole") / "run"
    finish(workdir, *flags)
    return workdir


@pytest.mark.slow
def test_a_killed_run_ends_like_the_whole(flags, whole, tmp_path):
    process = start(tmp_path / "run", *flags)
    wait_for(process, "epoch 2/3")  # the first checkpoint is complete
    process.kill()
    process.communicate()
    output = finish(tmp_path / "run", *flags)
    assert "Resuming after step" in output
    assert record(tmp_path / "run") == record(whole)
    assert_same_state(tmp_path / "run", whole)


@pytest.mark.slow
def test_two_processes_train_like_one(flags, whole, tmp_path):
    finish(tmp_path / "run", *flags, launcher=LAUNCHER)
    (rows, _), (expected, _) = record(tmp_path / "run"), record(whole)
    assert len(rows) == 3
    for row, other in zip(rows, expected, strict=True):
        assert row["train/loss"] == pytest.approx(other["train/loss"], rel=1e-4)
