import jax
import jax.numpy as jnp
import numpy as np
import pytest

from configs import digits
from isojax.data import Split
from isojax.evaluation import finetuning


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


def test_the_encoder_itself_learns(variables, monkeypatch):
    monkeypatch.setattr(finetuning, "LEARNING_RATES", (0.3,))
    before = jax.tree.map(np.array, variables)
    tuned = finetuning.finetune(
        apply, variables, stripes(200), stripes(60), augment=still(), epochs=100
    )
    assert tuned.accuracy > 0.8
    assert tuned.accuracy == np.mean(tuned.predictions == stripes(60).labels)
    jax.tree.map(np.testing.assert_array_equal, before, variables)


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


def test_colours_are_left_and_geometry_is_not():
    augment = finetuning._geometry(still(rotation=18.0, brightness=0.3))
    assert (augment.rotation, augment.brightness, augment.contrast) == (18.0, 0.0, 0.0)


def test_the_head_starts_as_pytorch_s_linear_layers(variables):
    image = stripes(1).images
    start = finetuning._with_head(apply, variables, image, classes=1000)
    head = start["params"]["head"]
    assert {name: array.shape for name, array in head.items()} == {
        "kernel": (4, 1000),
        "bias": (1000,),
    }
    for array in head.values():  # four features: U(-1/2, 1/2)
        assert 0.49 < jnp.abs(array).max() <= 0.5
        assert array.var() == pytest.approx(1 / 12, rel=0.1)
    again = finetuning._with_head(apply, variables, image, classes=1000)
    jax.tree.map(np.testing.assert_array_equal, start, again)
