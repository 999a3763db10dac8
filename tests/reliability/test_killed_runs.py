"""Whole runs that are killed, stopped and forked, by their command lines."""

import random
import signal
import time

import pytest

from isojax.runs.saved_steps import saved_steps
from isojax.stopping import STOPPED_EXIT_CODE
from tests.reliability.runs import (
    assert_same_state,
    finish,
    record,
    start,
    wait_for,
)

EPOCHS = 6
LENGTH = f"--config.epochs={EPOCHS}"


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    """A run that nobody disturbed."""
    workdir = tmp_path_factory.mktemp("whole") / "run"
    finish(workdir, LENGTH)
    return workdir


@pytest.mark.parametrize(
    "kills",
    [
        pytest.param(2, marks=pytest.mark.long),
        pytest.param(100, marks=pytest.mark.slow),
    ],
)
def test_a_run_killed_repeatedly_ends_like_an_uninterrupted_one(
    whole, tmp_path, kills, report_figure
):
    """Killed at any moment: while it starts, trains, saves, or writes metrics."""
    chance, number, runs, damaged, repeated = random.Random(kills), 0, 0, 0, 0
    while number < kills:
        runs += 1
        workdir, is_finished = tmp_path / f"run{runs}", False
        while not is_finished and number < kills:
            process = start(workdir, LENGTH)
            if chance.random() < 0.8:  # while epochs of a third of a second pass
                wait_for(process, ("epoch ", "The run in"))
                time.sleep(chance.uniform(0, 1))
            else:
                time.sleep(chance.uniform(0, 10))
            process.kill()
            process.communicate()
            number += 1
            is_finished = (workdir / "figures" / "learning.png").exists()
            repeated += _epochs_without_checkpoint(workdir)
        finish(workdir, LENGTH)
        assert record(workdir) == record(whole)
        assert_same_state(workdir, whole)
        damaged += len(list((workdir / "checkpoints").glob("*.damaged*")))
    if kills > 2:
        report_figure(
            f"{kills} kills in {runs} runs: {damaged} damaged checkpoints, "
            f"{repeated} recorded epochs trained again"
        )
    assert damaged == 0


def _epochs_without_checkpoint(workdir):
    metrics = workdir / "metrics.jsonl"
    if not metrics.exists():
        return 0
    last = max(saved_steps(workdir), default=0)
    return len(metrics.read_text().splitlines()) - last // 6


@pytest.mark.parametrize(
    "number",
    [
        pytest.param(signal.SIGTERM, marks=pytest.mark.long),
        *(
            pytest.param(number, marks=pytest.mark.slow)
            for number in (signal.SIGINT, signal.SIGUSR1, signal.SIGHUP)
        ),
    ],
)
def test_a_signal_saves_the_run_which_then_resumes(whole, tmp_path, number):
    workdir = tmp_path / "run"
    process = start(workdir, LENGTH)
    wait_for(process, "epoch 2/")
    process.send_signal(number)
    sent = time.monotonic()
    time.sleep(0.03)
    process.send_signal(signal.SIGTERM)  # as Slurm does
    output, _ = process.communicate(timeout=60)
    assert time.monotonic() - sent < 10
    assert process.returncode == STOPPED_EXIT_CODE, output
    assert "the state is saved. Repeat the command to resume." in output
    finish(workdir, LENGTH)
    # The record of the epoch that was cut is that of its rest.
    assert record(workdir)[1] == record(whole)[1]
    assert_same_state(workdir, whole)


@pytest.mark.long
def test_a_signal_before_the_first_step_ends_at_once(tmp_path):
    # No other test compiles this network, which takes more than a second.
    process = start(tmp_path / "run", "--config.model.width=5", script="train.py")
    wait_for(process, "Compiling")
    time.sleep(1)
    process.terminate()
    output, _ = process.communicate(timeout=5)
    assert process.returncode == STOPPED_EXIT_CODE
    assert "nothing to save" in output


@pytest.mark.slow
def test_a_run_that_loses_its_newest_checkpoint_ends_the_same(whole, tmp_path):
    workdir = tmp_path / "run"
    process = start(workdir, LENGTH)
    wait_for(process, "epoch 4/")
    process.kill()
    process.communicate()
    checkpoints, steps = workdir / "checkpoints", saved_steps(workdir)
    data = max(
        (checkpoints / str(steps[-1])).rglob("*"), key=lambda p: p.stat().st_size
    )
    content = bytearray(data.read_bytes())
    content[len(content) // 2] ^= 1
    data.write_bytes(content)
    assert f"set aside as {steps[-1]}.damaged" in finish(workdir, LENGTH)
    assert record(workdir) == record(whole)
    assert_same_state(workdir, whole)


@pytest.mark.slow
def test_a_fork_of_a_finished_run_trains_longer(whole, tmp_path):
    flags = [f"--fork_from={whole}", f"--config.epochs={EPOCHS + 2}"]
    for _ in range(2):  # the second time it is finished
        output = finish(tmp_path / "run", *flags)
    assert "is finished" in output
    rows, _ = record(tmp_path / "run")
    assert [row["epoch"] for row in rows] == list(range(1, EPOCHS + 3))
    assert rows[:EPOCHS] == record(whole)[0]


@pytest.mark.slow
def test_a_run_in_use_is_refused(tmp_path):
    first = start(tmp_path / "run")
    wait_for(first, "Pretraining")
    second = start(tmp_path / "run")
    output, _ = second.communicate(timeout=60)
    first.kill()
    first.communicate()
    assert second.returncode == 2
    assert output.startswith("error: ") and f"in use by process {first.pid}" in output
