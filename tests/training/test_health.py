import json

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from isojax import processes
from isojax.errors import UsageError
from isojax.training.health import (
    QUANTITIES,
    check_finite,
    first_not_finite,
)


def test_quantities_are_in_the_order_in_which_a_step_computes_them():
    """What diverges carries over to all that is computed from it."""
    order = ("projections", "correlation", "predictions", "loss", "gradients")
    values = dict.fromkeys(order, jnp.float32(1))
    for number, name in reversed([*enumerate(order, start=1)]):
        values[name] = jnp.float32(np.nan)
        assert first_not_finite(values) == number


def test_a_step_reports_what_became_non_finite_first(tiny_run, batch):
    run = tiny_run(metric="euclidean", form="standard", predictor="linear")
    state, step = run.state, jax.jit(run.step)

    def with_output_kernel(params, factor):
        output = params["projector"]["output"]
        output = output | {"kernel": output["kernel"] * factor}
        return params | {"projector": params["projector"] | {"output": output}}

    predictor = jax.tree.map(lambda x: x * jnp.nan, state.params["predictor"])
    velocity = jax.tree.map(lambda x: jnp.full_like(x, jnp.inf), state.params)
    broken = {
        "projections": {"params": with_output_kernel(state.params, jnp.nan)},
        "correlation": {"correlation": state.correlation.at[1, 2].set(jnp.nan)},
        "predictions": {"params": state.params | {"predictor": predictor}},
        # A distance whose square overflows.
        "loss": {"target_params": with_output_kernel(state.target_params, 1e30)},
        "gradients": {"opt_state": optax.tree.set(state.opt_state, trace=velocity)},
    }
    assert step(state, batch)[1].not_finite == 0
    for name, changes in broken.items():
        number = step(state.replace(**changes), batch)[1].not_finite
        assert number == QUANTITIES.index(name) + 1, name


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize("number", range(len(QUANTITIES)))
def test_the_first_of_several_is_named(number, bad):
    values = dict.fromkeys(QUANTITIES, jnp.float32(1))
    assert first_not_finite(values) == 0
    for name in QUANTITIES[number:]:
        values[name] = jnp.float32(bad)
    assert first_not_finite(values) == number + 1


def test_finite_numbers_pass(tmp_path):
    check_finite(0, {"loss": 1.0}, step=3, workdir=tmp_path, last_checkpoint=None)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("last_checkpoint", "message"),
    [(60, "step 60, use --fork_from="), (None, "no checkpoint yet")],
)
def test_the_step_is_reported_and_written(last_checkpoint, message, tmp_path):
    metrics = {"loss": np.nan, "gradient_norm": np.inf}
    with pytest.raises(UsageError, match=f"step 77: loss .*{message}"):
        check_finite(
            4, metrics, step=77, workdir=tmp_path, last_checkpoint=last_checkpoint
        )
    report = json.loads((tmp_path / "not_finite.json").read_text())
    assert report["first"] == "loss"
    assert (report["step"], report["loss"], report["gradient_norm"]) == (
        77,
        "nan",
        "inf",
    )


@pytest.mark.parametrize("number", range(1, len(QUANTITIES) + 1))
def test_each_quantity_ends_the_run_by_its_name(number, tmp_path):
    first = QUANTITIES[number - 1]
    with pytest.raises(UsageError, match=f"step 5: {first} "):
        check_finite(number, {}, step=5, workdir=tmp_path, last_checkpoint=None)


def test_only_the_first_process_writes_the_report(tmp_path, monkeypatch):
    monkeypatch.setattr(processes, "is_first_process", lambda: False)
    with pytest.raises(UsageError):
        check_finite(1, {}, step=5, workdir=tmp_path, last_checkpoint=3)
    assert not list(tmp_path.iterdir())


def test_a_report_that_cannot_be_written_does_not_hide_the_message(tmp_path):
    with pytest.raises(UsageError, match="step 5: projections "):
        check_finite(1, {}, step=5, workdir=tmp_path / "gone", last_checkpoint=3)
