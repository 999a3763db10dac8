import jax.numpy as jnp
import numpy as np
import pytest

from isojax.data import from_arrays
from isojax.errors import UsageError

RNG = np.random.default_rng(0)
IMAGES = RNG.integers(0, 256, (8, 4, 4, 3), dtype=np.uint8)
LABELS = np.arange(8) % 2
TEST = {
    "test_images": RNG.integers(0, 256, (4, 4, 4, 3), dtype=np.uint8),
    "test_labels": np.array([0, 1, 1, 0]),
}


def test_labelled_images_are_used_everywhere():
    dataset = from_arrays(IMAGES, LABELS, **TEST, label_names=["cat", "dog"])
    assert dataset.pretrain.images is IMAGES
    assert dataset.train is dataset.pretrain
    np.testing.assert_array_equal(dataset.evaluation.images, TEST["test_images"])
    np.testing.assert_array_equal(dataset.evaluation.labels, TEST["test_labels"])
    assert dataset.train.labels.dtype == dataset.evaluation.labels.dtype == np.int32
    assert dataset.label_names == ("cat", "dog") and dataset.num_classes == 2


@pytest.mark.parametrize("names", [np.array([10, 20]), ["10", "20"]])
def test_names_of_classes_are_any_sequence_and_become_text(names):
    assert from_arrays(IMAGES, LABELS, label_names=names).label_names == ("10", "20")


def test_without_labels_nothing_is_left_for_the_readout():
    dataset = from_arrays(IMAGES)
    np.testing.assert_array_equal(dataset.pretrain.labels, np.full(8, -1))
    assert dataset.train.images.shape == dataset.evaluation.images.shape == (0, 4, 4, 3)
    assert dataset.num_classes == 0 and dataset.label_names == ()


def test_unlabelled_test_images_are_kept():
    dataset = from_arrays(IMAGES, test_images=TEST["test_images"])
    np.testing.assert_array_equal(dataset.evaluation.labels, np.full(4, -1))


def test_minus_one_marks_images_without_a_label():
    dataset = from_arrays(IMAGES, np.where(np.arange(8) < 5, LABELS, -1))
    assert len(dataset.pretrain.labels) == 8
    np.testing.assert_array_equal(dataset.train.images, IMAGES[:5])


@pytest.mark.parametrize("dtype", [np.float16, np.float32, np.float64])
def test_floats_are_rounded_to_256_levels(dtype):
    exact = from_arrays((IMAGES / 255).astype(dtype))
    np.testing.assert_array_equal(exact.pretrain.images, IMAGES)
    pixels = np.full((2, 2, 2, 1), 0.5, dtype)
    pixels[0] = 0.4999 / 255
    rounded = from_arrays(pixels).pretrain.images
    np.testing.assert_array_equal(rounded[:, 0, 0, 0], [0, 128])
    with pytest.raises(UsageError, match="a side of at least 2"):
        from_arrays(pixels[:, :1, :1])


def test_lists_and_jax_arrays_are_accepted():
    for images in (list(IMAGES), jnp.asarray(IMAGES)):
        np.testing.assert_array_equal(from_arrays(images).pretrain.images, IMAGES)


def with_value(value):
    images = IMAGES / 255
    images[3, 1, 2, 0] = value
    return images


@pytest.mark.parametrize(
    ("images", "message"),
    [
        (IMAGES[:0], "images are empty; pass at least one"),
        (IMAGES[..., 0], r"shape \(8, 4, 4\).*images\[..., None\]"),
        (IMAGES[0, 0], r"shape \(4, 3\).*reshape"),
        (np.zeros((8, 4, 4, 2), np.uint8), "1 or 3 channels; select or average"),
        (np.zeros((8, 3, 4, 4), np.uint8), r"transpose\(0, 2, 3, 1\)"),
        (IMAGES[:, :3], r"shape \(8, 3, 4, 3\).*crop or resize"),
        ([IMAGES[0], IMAGES[1, :3]], "images have different sizes .*from_folder"),
        ([IMAGES[0], IMAGES[1, ..., :1]], "sizes or numbers of channels; convert"),
        (np.array([IMAGES[0], None], object), "images have different sizes"),
        (IMAGES.astype(np.int64), r"type int64; .*astype\(np.uint8\)"),
        (IMAGES.astype(np.float32), r"float32 in \[0, 255\].*divide them by 255"),
        (IMAGES / 127.5 - 1, r"float64 in \[-1, 1\].*do not normalise"),
        (with_value(np.nan), "1 of 8 images contain NaN .*remove or repair"),
        (with_value(np.inf), "1 of 8 images contain NaN or infinite"),
    ],
)
def test_unusable_images_are_refused_in_one_line(images, message):
    with pytest.raises(UsageError, match=message) as error:
        from_arrays(images)
    assert "\n" not in str(error.value)
    with pytest.raises(UsageError, match=message.replace("images", "test_images")):
        from_arrays(IMAGES, test_images=images)


@pytest.mark.parametrize(
    ("labels", "message"),
    [
        (LABELS[:7], r"labels have shape \(7,\), .* 8 images; .*\(8,\)"),
        (LABELS[:, None], r"shape \(8, 1\)"),
        (LABELS.astype(float), "type float64; pass integers"),
        (np.array(list("abababab")), "type <U1; .*return_inverse"),
        (LABELS - 2, "contain -2; classes are numbered from 0"),
        (LABELS * 0, r"1 class\(es\); pass at least two, or no labels"),
        (LABELS * 0 - 1, r"0 class\(es\); pass at least two"),
        (LABELS * 2, "class 1 of 0 to 2 has no images; number"),
        (LABELS + 1, "class 0 of 0 to 2 has no images"),
        (LABELS * 10**6, "class 1 of 0 to 1000000 has no images"),
        (LABELS * 2**40, "contain 1099511627776; number"),
    ],
)
def test_unusable_labels_are_refused(labels, message):
    with pytest.raises(UsageError, match=message):
        from_arrays(IMAGES, labels)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"label_names": ["cat"]}, "labels contain 1, and 1 label_names"),
        ({"label_names": ["a", "b", "c"]}, "class 2 of 0 to 2 has no images"),
        ({"label_names": ["a", "a"]}, "label_names .* repeat"),
        ({"test_labels": None}, "test_images are given without test_labels"),
        ({"test_images": None}, "test_labels is given without test_images"),
        ({"labels": None}, "test_labels is given without labels"),
        (
            {"labels": None, "test_labels": None, "label_names": ["a", "b"]},
            "label_names is given without labels",
        ),
        ({"test_labels": [0, 1, 2, 0]}, "test_labels contain 2, .* 0 to 1"),
        ({"test_labels": [0, 1, -1, 0]}, "test_labels contain -1; every"),
        ({"test_labels": [1, 1, 1, 1]}, "class 0 has no test images; add"),
        ({"test_labels": [0, 1]}, r"test_labels have shape \(2,\), .* 4 test_images"),
        ({"test_images": IMAGES[2:6]}, "images and test_images share images"),
        (
            {"test_images": TEST["test_images"][..., :1]},
            r"images have shape \(4, 4, 3\) and test_images \(4, 4, 1\)",
        ),
    ],
)
def test_parts_that_do_not_fit_together_are_refused(changes, message):
    arguments = {"images": IMAGES, "labels": LABELS, **TEST} | changes
    with pytest.raises(UsageError, match=message):
        from_arrays(arguments.pop("images"), **arguments)
