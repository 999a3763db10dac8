import jax
import jax.numpy as jnp
import numpy as np
import pytest

from isojax.schedules import target_decay, warmup_cosine


def test_warmup_cosine_equals_values_computed_by_hand():
    schedule = warmup_cosine(peak=0.1, warmup_steps=10, total_steps=30)
    expected = {
        0: 0.0,
        5: 0.05,
        10: 0.1,
        15: 0.05 * (1 + 0.5**0.5),
        20: 0.05,
        30: 0.0,
        40: 0.0,
    }
    steps = jnp.array(list(expected))
    np.testing.assert_allclose(
        jax.vmap(schedule)(steps), list(expected.values()), atol=1e-8
    )


def test_warmup_starts_from_init():
    schedule = warmup_cosine(peak=0.1, warmup_steps=4, total_steps=8, init=0.02)
    np.testing.assert_allclose([schedule(0), schedule(1)], [0.02, 0.04], rtol=1e-6)


def test_without_warmup_the_first_step_has_the_peak():
    schedule = warmup_cosine(peak=0.1, warmup_steps=0, total_steps=8)
    values = [schedule(step) for step in (0, 4, 8)]
    np.testing.assert_allclose(values, [0.1, 0.05, 0.0], atol=1e-8)


def test_schedule_agrees_under_jit():
    schedule = warmup_cosine(peak=0.1, warmup_steps=3, total_steps=9)
    steps = np.arange(10, dtype=np.int32)
    jitted = jax.jit(schedule)
    np.testing.assert_allclose(
        [jitted(step) for step in steps],
        [schedule(step) for step in steps],
        rtol=1e-6,
        atol=1e-9,
    )


@pytest.mark.parametrize("warmup_steps", [10, 11])
def test_warmup_that_leaves_no_decay_is_refused_with_the_remedy(warmup_steps):
    message = f"warmup_steps={warmup_steps} .*total_steps=10.*shorten the warmup"
    with pytest.raises(ValueError, match=message):
        warmup_cosine(peak=0.1, warmup_steps=warmup_steps, total_steps=10)


def test_negative_warmup_is_refused_with_the_remedy():
    with pytest.raises(ValueError, match="warmup_steps=-1 .*choose 0"):
        warmup_cosine(peak=0.1, warmup_steps=-1, total_steps=10)


def test_target_decay_equals_values_computed_by_hand(x64):
    steps = jnp.array([0, 25, 50, 100, 150])
    expected = [0.996, 1 - 0.004 * (1 + 0.5**0.5) / 2, 0.998, 1, 1]
    np.testing.assert_allclose(
        target_decay(steps, total_steps=100, initial=0.996), expected, rtol=1e-15
    )


def test_target_decay_agrees_under_jit_and_vmap():
    steps = jnp.arange(0, 110, 10)

    def decay(step):
        return target_decay(step, total_steps=100, initial=0.9)

    eager = decay(steps)
    assert (jnp.diff(eager[:11]) > 0).all()
    np.testing.assert_allclose(jax.jit(decay)(steps), eager, rtol=1e-6)
    np.testing.assert_allclose(jax.vmap(decay)(steps), eager, rtol=1e-6)


@pytest.mark.parametrize(("initial", "middle"), [(0.0, 0.5), (1.0, 1.0)])
def test_both_ends_of_the_decay_are_allowed(initial, middle):
    tau = target_decay(jnp.array([0.0, 5.0]), total_steps=10, initial=initial)
    np.testing.assert_allclose(tau, [initial, middle], rtol=1e-6)


@pytest.mark.parametrize(
    "wrong",
    [
        {"total_steps": 0, "initial": 0.9},
        {"initial": 1.1, "total_steps": 10},
        {"initial": -0.1, "total_steps": 10},
    ],
)
def test_wrong_hyperparameters_are_refused_with_the_remedy(wrong):
    name, value = next(iter(wrong.items()))
    with pytest.raises(ValueError, match=f"{name}={value} .*choose"):
        target_decay(jnp.zeros(()), **wrong)
