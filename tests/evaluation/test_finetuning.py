from types import SimpleNamespace

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from isojax import data_parallel
from isojax.configs import digits
from isojax.data import Split, hold_out, training_batches
from isojax.evaluation import finetuning
from isojax.training.settings import view_settings


def stripes(n):
    """Rows or columns, which the features below tell apart only once trained."""
    labels = (np.arange(n) % 2).astype(np.int32)
    rng = np.random.default_rng(n)
    lines = rng.integers(0, 256, (n, 8, 1, 1), dtype=np.uint8)
    rows = np.broadcast_to(lines, (n, 8, 8, 1))
    turned = labels.reshape(-1, 1, 1, 1) == 1
    return Split(np.where(turned, rows.transpose(0, 2, 1, 3), rows), labels)


def apply(variables, images):
    if images.dtype == jnp.uint8:
        images = images.astype(jnp.float32) / 255.0
    kernel = variables["params"]["kernel"]
    maps = jax.lax.conv_general_dilated(
        images - 0.5,
        kernel,
        (1, 1),
        "VALID",
        dimension_numbers=("NHWC", "HWIO", "NHWC"),
    )
    return jnp.square(maps).mean(axis=(1, 2))


@pytest.fixture(scope="module")
def variables():
    # Of the same kind in both directions, so that the head alone learns nothing.
    kernel = jnp.ones((2, 2, 1, 4)) * jnp.array([1.0, 0.9, 1.1, 1.0]).reshape(
        1, 1, 1, 4
    )
    noise = 0.02 * jax.random.normal(jax.random.key(0), kernel.shape)
    return {"params": {"kernel": kernel + noise}, "batch_stats": {}}


def still(**changes):
    config = digits.get_config().augment.copy_and_resolve_references()
    with config.unlocked():
        for name in ("rotation", "log_scale", "log_aspect", "shear", "shift"):
            config[name] = 0.0
        config.update(changes)
    return config


@pytest.mark.long
def test_the_encoder_itself_learns(variables, monkeypatch):
    monkeypatch.setattr(finetuning, "LEARNING_RATES", (0.3,))
    before = jax.tree.map(np.array, variables)
    tuned = finetuning.finetune(
        apply, variables, stripes(200), stripes(60), augment=still(), epochs=100
    )
    assert tuned.accuracy > 0.8
    assert tuned.accuracy == np.mean(tuned.predictions == stripes(60).labels)
    jax.tree.map(np.testing.assert_array_equal, before, variables)


@pytest.mark.long
def test_the_learning_rate_is_chosen_without_the_test_images(variables, monkeypatch):
    monkeypatch.setattr(finetuning, "LEARNING_RATES", (1e-8, 0.3))
    monkeypatch.setattr(finetuning, "_FEWEST_STEPS", 60)
    train, test = stripes(60), stripes(20)
    tuned = finetuning.finetune(apply, variables, train, test, augment=still())
    wrong = Split(test.images, 1 - test.labels)
    scrambled = finetuning.finetune(apply, variables, train, wrong, augment=still())
    assert scrambled.learning_rate == tuned.learning_rate
    np.testing.assert_array_equal(scrambled.predictions, tuned.predictions)
    assert scrambled.accuracy == pytest.approx(1 - tuned.accuracy)


def test_only_the_geometry_of_views_is_kept():
    augment = finetuning._geometry(still(rotation=18.0, brightness=0.3)).config
    assert (augment.rotation, augment.brightness, augment.contrast) == (18.0, 0.0, 0.0)


def test_the_head_starts_at_zero(variables):
    start = finetuning._with_head(apply, variables, stripes(1).images, classes=10)
    head = start["params"]["head"]
    assert {name: array.shape for name, array in head.items()} == {
        "kernel": (4, 10),
        "bias": (10,),
    }
    assert not any(array.any() for array in head.values())


def test_the_rate_is_chosen_on_held_out_images_and_all_are_trained_on_last(
    variables, monkeypatch
):
    train, test = stripes(60), stripes(20)
    fitting, held = hold_out(train, 0.2)
    right = {len(split.labels): split.labels for split in (held, test)}
    trainings, augmentations = [], []

    def train_on(step, start, split, rate, epochs, advance):
        trainings.append((split, rate, epochs))
        return rate

    def classify(logits, rate, images):
        wrong = 1 if rate == 0.01 else 6
        labels = right[len(images)].copy()
        labels[:wrong] = 1 - labels[:wrong]
        return labels

    monkeypatch.setattr(
        finetuning, "_make_step", lambda logits, config: augmentations.append(config)
    )
    monkeypatch.setattr(finetuning, "_train", train_on)
    monkeypatch.setattr(finetuning, "_classify", classify)
    tuned = finetuning.finetune(
        apply, variables, train, test, augment=still(brightness=0.3), epochs=7
    )
    assert [rate for _, rate, _ in trainings] == [0.003, 0.01, 0.03, 0.01]
    for split, _, epochs in trainings[:3]:
        np.testing.assert_array_equal(split.images, fitting.images)
        assert epochs == 7
    np.testing.assert_array_equal(trainings[3][0].images, train.images)
    assert (tuned.learning_rate, tuned.accuracy) == (0.01, 19 / 20)
    assert tuned.validation_accuracy == pytest.approx(11 / 12)
    assert augmentations[0].config.brightness == 0


def train(*arguments, **options):
    return finetuning._train(*arguments, advance=lambda _: None, **options)


def step_of(change):
    """Returns a step without devices, of one parameter array and no momentum."""

    def step(state, rows, shared):
        params, momentum = state
        counted = rows.get("counted", np.ones(rows["labels"].shape))
        chosen = np.asarray(counted).ravel() > 0
        batch = {name: np.concatenate(list(rows[name]))[chosen] for name in rows}
        return SimpleNamespace(state=(change(params, batch, shared), momentum))

    return step


def test_a_training_warms_up_and_decays_over_its_shuffled_epochs():
    calls = []

    def change(params, batch, shared):
        np.testing.assert_array_equal(batch["images"], split.images[batch["indices"]])
        calls.append((batch["indices"], shared["number"], shared["rate"]))
        np.testing.assert_array_equal(shared["rest"]["batch_stats"], [7])
        return params + 1

    start = {"params": np.zeros(3), "batch_stats": np.array([7])}
    split = stripes(130)  # two batches of 64
    trained = train(step_of(change), start, split, 0.02, epochs=100)
    np.testing.assert_array_equal(trained["params"], 200)
    indices, numbers, rates = zip(*calls, strict=True)
    expected = [
        batch["indices"]
        for epoch in range(100)
        for batch in training_batches(split, batch_size=64, seed=0, epoch=epoch)
    ]
    np.testing.assert_array_equal(indices, expected)
    assert numbers == tuple(range(200))
    # Over 20 steps up to the peak, and half of it in the middle of the other 180.
    np.testing.assert_allclose(
        np.take(rates, [0, 10, 20, 110]), [0, 0.01, 0.02, 0.01], atol=1e-6
    )
    assert 0 < rates[-1] < 1e-5


@pytest.mark.parametrize(("images", "epochs", "steps"), [(10, 1, 150), (70, 200, 200)])
def test_few_images_are_trained_on_for_more_epochs(images, epochs, steps):
    counts = []

    def change(params, batch, shared):
        counts.append((len(batch["labels"]), shared["count"]))
        return params

    start = {"params": np.zeros(3)}
    train(step_of(change), start, stripes(images), 0.1, epochs)
    assert counts == [(min(images, 64), min(images, 64))] * steps


def no_change():
    return still(crop_scale=(1.0, 1.0), brightness=0.0, contrast=0.0)


def logits(variables, images):
    return finetuning._logits(apply, variables, images)


def shared_arrays(number, count):
    rest = {"batch_stats": {}}
    return {
        "rest": rest,
        "number": np.int32(number),
        "rate": np.float32(0.1),
        "count": np.float32(count),
    }


def first_state(variables, classes):
    images = stripes(1).images
    params = finetuning._with_head(apply, variables, images, classes)["params"]
    params = jax.tree.map(jnp.copy, params)
    momentum = optax.trace(0.9, nesterov=True).init(params)
    return data_parallel.replicate((params, momentum))


@pytest.mark.parametrize("count", [12, 10])  # of which 10 do not divide by 4 devices
def test_a_step_is_nesterov_s_on_encoder_and_head(variables, count):
    split, rate = stripes(count), 0.1
    batch = {"images": split.images, "labels": split.labels}
    rows = data_parallel.split_rows({**batch, "indices": np.arange(count)})

    def loss(params):
        features = apply({"params": params["encoder"]}, split.images)
        logits = features @ params["head"]["kernel"] + params["head"]["bias"][None]
        chosen = jax.nn.log_softmax(logits)[jnp.arange(count), split.labels]
        return -chosen.mean()

    state = first_state(variables, classes=2)
    expected = jax.tree.map(np.array, state[0])
    velocity = jax.tree.map(jnp.zeros_like, expected)
    step = finetuning._make_step(logits, view_settings(no_change()))
    for number in range(3):
        state = step(state, rows, shared_arrays(number, count)).state
        gradient = jax.grad(loss)(expected)
        velocity = jax.tree.map(lambda v, g: 0.9 * v + g, velocity, gradient)
        expected = jax.tree.map(
            lambda p, v, g: p - rate * (g + 0.9 * v), expected, velocity, gradient
        )
    jax.tree.map(
        lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-5),
        state[0],
        expected,
    )


def test_every_image_of_a_step_has_its_own_view(variables, monkeypatch):
    seen = []

    def views(keys, images, **_):
        jax.debug.callback(seen.append, jax.random.key_data(keys))
        return images / 255.0

    monkeypatch.setattr(finetuning, "random_views", views)
    split = stripes(8)
    batch = {"images": split.images, "labels": split.labels}
    rows = data_parallel.split_rows({**batch, "indices": np.arange(8)})
    state = first_state(variables, classes=2)
    step = finetuning._make_step(logits, view_settings(no_change()))
    for number in range(2):
        state = step(state, rows, shared_arrays(number, 8)).state
    jax.effects_barrier()
    assert len({tuple(key) for keys in seen for key in np.asarray(keys).tolist()}) == 16
