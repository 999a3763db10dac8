"""What an epoch does after each step, and after its last one."""

from functools import partial
from types import SimpleNamespace
from unittest.mock import Mock, call

import jax.numpy as jnp
import pytest

from isojax import processes
from isojax.configs import digits
from isojax.data_parallel import StepResult
from isojax.training import epochs
from isojax.training.step import StepReport


@pytest.mark.parametrize("stop_requested", [False, True])
def test_the_bar_advances_by_a_batch_and_shows_every_tenth_loss(stop_requested):
    context = SimpleNamespace(config=SimpleNamespace(batch_size=32))
    bar = Mock(disable=False)
    for step in range(1, 21):
        report = SimpleNamespace(
            metrics={"loss": jnp.float32(step / 8)}, not_finite=jnp.int32(0)
        )
        result = SimpleNamespace(
            report=report, stop_requested=jnp.array(stop_requested)
        )
        found = epochs.finish_step(context, result, step, bar)
        assert found is stop_requested
    assert bar.update.call_args_list == 20 * [call(32)]
    shown = [arguments.kwargs["loss"] for arguments in bar.set_postfix.call_args_list]
    assert shown == ["1.250", "2.500"]


class Result:
    """A scalar on a device, which records when the host copies and reads it."""

    def __init__(self, events, step, name):
        self._record = lambda event: events.append((event, step, name))

    def copy_to_host_async(self):
        self._record("copy")

    def __int__(self):
        self._record("read")
        return 0

    def __bool__(self):
        self._record("read")
        return False

    def __float__(self):
        raise AssertionError("nobody looks at the bar")


def test_the_host_never_waits_for_the_newest_step():
    events, steps = [], 12

    def step(state, batch, shared, *, stop_requested):
        events.append(("dispatch", state, None))
        scalar = partial(Result, events, state)
        report = StepReport({"loss": scalar("loss")}, scalar("not_finite"))
        return StepResult(state + 1, report, scalar("stop"))

    def epoch(number, *, first):
        yield from range(first, steps)

    context = SimpleNamespace(
        config=SimpleNamespace(batch_size=32),
        feed=SimpleNamespace(epoch=epoch, shared={}),
        last_step=steps,
        step=step,
        steps_per_epoch=steps,
        stop=SimpleNamespace(is_set=False),
    )
    trained = epochs.train_epoch(
        context, epochs.Position(0, 0), 0, bar=Mock(disable=True), on_first_step=None
    )
    assert trained.position == (steps, steps) and not trained.stop_requested
    newest, copied = -1, set()
    for event, number, name in events:
        if event == "dispatch":
            newest = number
        elif event == "copy":
            assert number == newest
            copied.add((number, name))
        else:
            assert (number, name) in copied
            assert number == newest - 1 or number == steps - 1
    # Two scalars of each step are read, once.
    reads = [rest for event, *rest in events if event == "read"]
    assert reads == [[n, name] for n in range(steps) for name in ("not_finite", "stop")]


def test_an_interrupted_epoch_closes_its_feed():
    closed = []

    def epoch(number, *, first):
        try:
            while True:
                yield first
        finally:
            closed.append(number)

    context = SimpleNamespace(
        feed=SimpleNamespace(epoch=epoch, shared={}),
        last_step=12,
        step=Mock(side_effect=KeyboardInterrupt),
        steps_per_epoch=12,
        stop=SimpleNamespace(is_set=False),
    )
    with pytest.raises(KeyboardInterrupt) as interrupt:
        epochs.train_epoch(
            context, epochs.Position(0, 0), 0, bar=Mock(), on_first_step=None
        )
    assert (
        closed == [0] and interrupt.tb
    )  # the frames are alive, so nothing else closed


@pytest.mark.parametrize(
    ("collapsed", "warns"),
    [
        ([True], False),  # as the first epoch of some runs
        ([False, True], False),
        ([True, False], False),
        ([True, True], True),
        ([False, True, True], True),
        ([True, True, True], False),  # already reported
        ([True, True, False, True, True], True),
    ],
)
def test_a_collapse_of_two_epochs_is_reported_with_the_last(
    monkeypatch, collapsed, warns
):
    lines = []
    monkeypatch.setattr(processes, "print_once", lambda line, **_: lines.append(line))
    rows = [
        {
            "epoch": epoch,
            "train/std": 0.0 if is_collapsed else 0.5,
            "train/participation_ratio": 9.0,
        }
        for epoch, is_collapsed in enumerate(collapsed, start=1)
    ]
    recorder = SimpleNamespace(history=SimpleNamespace(rows=rows))
    context = SimpleNamespace(config=digits.get_config())
    epochs._check_collapse(context, recorder, position=None)
    assert len(lines) == warns
    for line in lines:
        assert f"epoch {len(rows)}:" in line
