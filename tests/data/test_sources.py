import numpy as np
import pytest

from isojax.data import ImageSource, Split, hold_out, load_dataset, sources
from isojax.data.cache import Images
from isojax.errors import UsageError


def source(name="digits", resolution=28, **fields):
    return ImageSource(name, resolution, **fields)


def test_hold_out_takes_the_same_part_of_every_class_and_loses_nothing():
    labels = np.repeat([0, 1, 2], [10, 20, 30]).astype(np.int32)
    split = Split(np.arange(60), labels)
    kept, held = hold_out(split, 0.2)
    np.testing.assert_array_equal(np.bincount(held.labels), [2, 4, 6])
    np.testing.assert_array_equal(
        np.sort(np.concatenate([kept.images, held.images])), np.arange(60)
    )
    np.testing.assert_array_equal(labels[held.images], held.labels)
    again = hold_out(split, 0.2)[1]
    np.testing.assert_array_equal(held.images, again.images)


def test_hold_out_never_takes_an_unlabelled_image():
    labels = np.repeat([-1, 0, 1], 20).astype(np.int32)
    kept, held = hold_out(Split(np.arange(60), labels), 0.5)
    np.testing.assert_array_equal(np.bincount(held.labels), [10, 10])
    assert (kept.labels == -1).sum() == 20


def test_the_digits_have_all_fields():
    digits = load_dataset(source())
    assert digits.pretrain is digits.train or digits.pretrain == digits.train
    assert digits.train.images.shape == (4000, 28, 28, 1)
    assert len(digits.evaluation.labels) == 1000
    assert digits.evaluation_name == "test"
    assert digits.num_classes == len(digits.label_names) == 10


def test_a_validation_part_replaces_the_test_images():
    full = load_dataset(source())
    tuning = load_dataset(source(validation_fraction=0.2))
    assert tuning.evaluation_name == "validation"
    assert len(tuning.train.labels) == len(tuning.pretrain.labels) == 3200
    assert len(tuning.evaluation.labels) == 800
    train = {image.tobytes() for image in full.train.images}
    assert all(image.tobytes() in train for image in tuning.evaluation.images)


@pytest.mark.parametrize(
    ("fraction", "part"), [(0.0001, "evaluation"), (0.9999, "pretrain")]
)
def test_a_validation_part_that_leaves_nothing_is_refused(fraction, part):
    with pytest.raises(UsageError, match=f"no images .* {part}"):
        load_dataset(source(validation_fraction=fraction))


@pytest.fixture
def with_unlabelled(monkeypatch):
    """A set whose splits have 20 labelled, 30 unlabelled and 10 test images."""
    images = np.arange(60, dtype=np.uint8).reshape(60, 1, 1, 1)
    labels = np.r_[np.arange(20) % 2, np.full(30, -1), np.arange(10) % 2]
    parts = {
        "train": np.arange(20),
        "unlabelled": np.arange(20, 50),
        "test": np.arange(50, 60),
    }

    def read(data, split, folder, data_dir):
        chosen = np.concatenate([parts[name] for name in split.split("+")])
        return Images(
            images[chosen],
            labels[chosen].astype(np.int32),
            ("even", "odd"),
            tuple(parts),
        )

    monkeypatch.setattr(sources, "_read_cached", read)
    return lambda **fields: load_dataset(source(name="some_set", **fields))


@pytest.mark.parametrize(
    ("pretrain_split", "size"),
    [("train+unlabelled", 46), ("unlabelled+train", 46), ("unlabelled", 30)],
)
def test_held_out_images_are_in_neither_training(with_unlabelled, pretrain_split, size):
    dataset = with_unlabelled(pretrain_split=pretrain_split, validation_fraction=0.2)
    held = set(dataset.evaluation.images.ravel())
    assert len(held) == 4
    assert held <= set(range(20))
    assert held.isdisjoint(dataset.train.images.ravel())
    assert held.isdisjoint(dataset.pretrain.images.ravel())
    assert (len(dataset.train.labels), len(dataset.pretrain.labels)) == (16, size)


def test_without_a_validation_part_all_images_are_there(with_unlabelled):
    dataset = with_unlabelled(pretrain_split="train+unlabelled")
    assert len(dataset.pretrain.labels) == 50
    assert (dataset.pretrain.labels == -1).sum() == 30
    assert len(dataset.evaluation.labels) == 10


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        (
            {"train_split": "unlabelled"},
            "train_split=unlabelled: 30 images have",
        ),
        (
            {"evaluation_split": "test+unlabelled"},
            "evaluation_split=test.unlabelled: 30 .* train, unlabelled, test",
        ),
        (
            {"pretrain_split": "train+test", "validation_fraction": 0.2},
            "config.data.pretrain_split to be those of config.data.train_split",
        ),
    ],
)
def test_splits_that_do_not_fit_are_refused(with_unlabelled, fields, message):
    with pytest.raises(UsageError, match=message):
        with_unlabelled(**fields)


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        (
            {"evaluation_split": "validation"},
            "no split 'validation'; it has train, test",
        ),
        ({"resolution": 32}, "resolution=32: .* set it to 28"),
        ({"resolution": 0}, "resolution=0: set it above 0"),
    ],
)
def test_what_the_digits_do_not_have_is_refused(fields, message):
    with pytest.raises(UsageError, match=message):
        load_dataset(source(**fields))


@pytest.mark.parametrize(
    ("environment", "argument", "expected"),
    [
        (None, None, "home/tensorflow_datasets"),
        ("env", None, "env"),
        ("env", "given", "given"),
        ("env", "~/mine", "home/mine"),
    ],
)
def test_the_data_directory_follows_flag_and_environment(
    environment, argument, expected, tmp_path, monkeypatch
):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    monkeypatch.delenv("TFDS_DATA_DIR", raising=False)
    if environment:
        monkeypatch.setenv("TFDS_DATA_DIR", environment)
    seen = []

    def read(data, split, folder, data_dir):
        seen.append((folder, data_dir))
        raise UsageError("stop")

    monkeypatch.setattr(sources, "_read_cached", read)
    fields = source(name="some/set", train_split="train[:10%]+b", resolution=64)
    with pytest.raises(UsageError, match="stop"):
        load_dataset(fields, data_dir=argument)
    ((folder, data_dir),) = seen
    assert data_dir == tmp_path / expected
    assert folder == data_dir / "isojax" / "some%2Fset-64" / "train%5B%3A10%25%5D+b"


@pytest.mark.parametrize(
    "name", ["/data/photos", "./photos", "../photos", "~/photos", "gs://bucket/photos"]
)
def test_a_path_is_not_taken_for_a_name(name, tmp_path):
    with pytest.raises(UsageError, match=f"config.data.name={name} is a path"):
        load_dataset(source(name=name), data_dir=tmp_path)


def test_arrays_must_be_passed_again():
    with pytest.raises(UsageError, match="name=arrays: .*dataset=isojax.data.from_arr"):
        load_dataset(source(name="arrays"))


@pytest.mark.parametrize("streaming", [False, True])
def test_images_of_a_folder_need_its_path(streaming):
    fields = source(name="folder", evaluation_split="val", streaming=streaming)
    with pytest.raises(UsageError, match="config.data.folder=PATH, .* val/CLASS"):
        load_dataset(fields)


def test_a_folder_s_name_is_a_path(tmp_path, monkeypatch):
    (tmp_path / "own_images").mkdir()
    monkeypatch.chdir(tmp_path)
    with pytest.raises(UsageError, match="config.data.name=own_images is a path"):
        load_dataset(source(name="own_images"), data_dir=tmp_path)
