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


def test_a_mapped_function_returns_the_rows_of_the_batch():
    mapped = data_parallel.MappedFunction(lambda shared, x: {"y": shared * x + 1})
    rows = np.arange(48, dtype=np.float32).reshape(8, 2, 3)
    batch = data_parallel.split_batch(rows)
    found = data_parallel.join_batch(mapped(np.float32(2), batch))
    np.testing.assert_array_equal(found["y"], 2 * rows + 1)


def test_a_mapped_function_returns_the_rows_of_several_batches_in_order():
    mapped = data_parallel.MappedFunction(lambda shared, x: {"y": shared * x})
    rows = np.arange(24, dtype=np.float32).reshape(3, 8)
    found = mapped.map_batches(np.float32(2), zip(rows, [8, 8, 5], strict=True))
    for batch, row, count in zip(found, rows, [8, 8, 5], strict=True):
        np.testing.assert_array_equal(batch["y"], 2 * row[:count])


@pytest.mark.parametrize("count", [1, 7, 8])
def test_sums_over_the_devices_count_each_row_once(count):
    def sums(shared, rows):
        counted = rows.get("counted", jnp.ones(len(rows["x"])))
        return shared * (counted[:, None] * (rows["x"] + 1)).sum(axis=0)

    mapped = data_parallel.MappedFunction(sums, adds=True)
    x = np.random.default_rng(0).normal(size=(count, 3)).astype(np.float32)
    rows = data_parallel.split_rows({"x": x})
    assert ("counted" in rows) == (count != 8)
    expected = 2 * (x + 1).sum(axis=0)
    np.testing.assert_allclose(mapped(np.float32(2), rows), expected, rtol=1e-6)


@pytest.mark.parametrize("processes", [1, 2, 3, 8])
@pytest.mark.parametrize("count", [0, 1, 10, 24, 25])
def test_the_processes_divide_all_rows_at_multiples_of_the_batch(
    monkeypatch, processes, count
):
    monkeypatch.setattr(jax, "process_count", lambda: processes)
    rows = []
    for process in range(processes):
        monkeypatch.setattr(jax, "process_index", lambda number=process: number)
        own = data_parallel.own_rows(count, 4)
        assert own.start % 4 == 0 or own.start == count
        rows += range(count)[own]
    assert rows == [*range(count)]


def test_a_few_results_are_dispatched_before_the_first_is_awaited():
    dispatched = []
    results = data_parallel.computed(
        dispatched.append(number) or number for number in range(6)
    )
    assert next(results) == 0
    assert dispatched == [0, 1, 2]
    assert [*results] == [1, 2, 3, 4, 5]


@pytest.mark.parametrize("count", [1, 2])
def test_a_step_and_a_function_are_lowered_for_other_devices(count):
    devices = jax.devices()[:count]
    number = jax.ShapeDtypeStruct((), jnp.float32)
    batch = data_parallel.split_shapes(
        {"x": jax.ShapeDtypeStruct((4, 3), jnp.float32)}, devices
    )
    assert batch["x"].shape == (count, 4 // count, 3)

    def step(state, batch, shared):
        return state + shared * batch["x"].sum(), ()

    lowered = data_parallel.MappedStep(step, devices=devices).lower(
        number, batch, number
    )
    program = lowered.compile()
    assert program.input_shardings[0][0].device_set == set(devices)
    added = data_parallel.MappedFunction(
        lambda shared, batch: shared * batch["x"].sum(), adds=True
    )
    text = added.on(devices).lower(number, batch).as_text()
    assert ("all_reduce" in text) == (count > 1)
    assert (
        "all_reduce"
        in added.lower(
            number,
            data_parallel.split_shapes(
                {"x": jax.ShapeDtypeStruct((4, 3), jnp.float32)}, jax.devices()
            ),
        ).as_text()
    )
