import jax
import jax.numpy as jnp
import numpy as np
import pytest

from isojax import data_parallel


@pytest.mark.parametrize(("devices", "axis"), [(1, None), (4, data_parallel.AXIS)])
def test_the_axis_has_a_name_with_several_devices(monkeypatch, devices, axis):
    monkeypatch.setattr(data_parallel, "device_count", lambda _: devices)
    assert data_parallel.axis_name() == axis


@pytest.mark.parametrize("requested", [True, False])
def test_a_mapped_step_returns_whether_a_stop_was_requested(requested):
    def step(state, batch, shared):
        return state + shared, jax.lax.psum(batch.sum(), data_parallel.AXIS)

    mapped = data_parallel.MappedStep(step)
    devices = data_parallel.device_count()
    batch = data_parallel.split_batch({"x": np.arange(2.0 * devices, dtype=np.float32)})
    state, shared = data_parallel.replicate((jnp.float32(1), jnp.float32(2)))
    result = mapped(state, batch["x"], shared, stop_requested=requested)
    assert bool(result.stop_requested) is requested
    assert result.state == 3
    assert result.report == np.arange(2 * devices).sum()
