"""What an epoch does after each step, and after its last one."""

from types import SimpleNamespace
from unittest.mock import Mock, call

import jax.numpy as jnp
import pytest

from isojax import processes
from isojax.configs import digits
from isojax.training import epochs


@pytest.mark.parametrize("stop_requested", [False, True])
def test_the_bar_advances_by_a_batch_and_shows_every_tenth_loss(stop_requested):
    context = SimpleNamespace(config=SimpleNamespace(batch_size=32))
    bar = Mock()
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
