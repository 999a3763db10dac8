"""Prepared sets of tensorflow-datasets whose images are decoded when they are read."""

import json
import shutil
import subprocess
import sys

import numpy as np
import pytest

from isojax.data import ImageSource, load_dataset, record_index
from isojax.data.augment.crop import CropSettings
from isojax.data.dataset import images_checksum
from isojax.data.streamed_batches import crop_batches
from isojax.errors import UsageError
from tests.data.image_files import write_images
from tests.data.photo_net import CLASSES, prepare
from tests.hidden_packages import hide

SIDE = 12
WITHOUT_TENSORFLOW = f"""
{hide("tensorflow")}
import numpy as np
from isojax.data import ImageSource, load_dataset
from isojax.data import builders
from tests.data import photo_net  # registers the data set
"""


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("photos")
    write_images(folder, per_class=7, classes=CLASSES)
    return write_images(folder, per_class=3, split="val", classes=CLASSES, seed=1)


@pytest.fixture(scope="module")
def data_dir(folder, tmp_path_factory):
    return prepare(folder, tmp_path_factory.mktemp("tfds"))


def source(**fields):
    options = {"streaming": True, "evaluation_split": "val"} | fields
    return ImageSource("photo_net", SIDE, **options)


def assert_same_split(found, expected):
    np.testing.assert_array_equal(found.labels, expected.labels)
    np.testing.assert_array_equal(np.asarray(found.images), expected.images)


def test_a_set_and_a_folder_with_the_same_files_are_the_same(folder, data_dir):
    found = load_dataset(source(), data_dir=data_dir)
    expected = load_dataset(source(folder=str(folder)), data_dir=data_dir)
    assert found.pretrain is found.train
    assert found.label_names == expected.label_names == CLASSES
    assert found.train.images.names() == expected.train.images.names()
    assert images_checksum(found.train.images) == images_checksum(expected.train.images)
    for part in ("train", "evaluation"):
        assert_same_split(getattr(found, part), getattr(expected, part))
    options = dict(
        crops=(CropSettings((0.08, 1.0), (3 / 4, 4 / 3)),) * 2,
        batch_size=4,
        seed=3,
        epoch=1,
    )
    batches = [
        list(crop_batches(*dataset.train, **options)) for dataset in (found, expected)
    ]
    assert len(batches[0]) == 5
    for batch, other in zip(*batches, strict=True):
        for name in other:
            np.testing.assert_array_equal(batch[name], other[name])


def test_the_index_is_written_once(folder, tmp_path, monkeypatch):
    data_dir = prepare(folder, tmp_path)
    first = load_dataset(source(), data_dir=data_dir)
    (index,) = (data_dir / "isojax" / "streamed").rglob("train-*.npz")
    with monkeypatch.context() as patch:
        patch.setattr(record_index, "_index", None)
        again = load_dataset(source(), data_dir=data_dir)
    assert_same_split(again.train, first.train)
    index.write_bytes(index.read_bytes()[:100])
    assert_same_split(load_dataset(source(), data_dir=data_dir).train, first.train)
    assert index.stat().st_size > 100


def test_images_are_not_read_before_they_are_used(data_dir, monkeypatch):
    load_dataset(source(), data_dir=data_dir)
    monkeypatch.setattr("isojax.data.streamed_records.read_records", None)
    dataset = load_dataset(source(validation_fraction=0.3), data_dir=data_dir)
    assert len(dataset.train.images) == 15 and len(dataset.evaluation.images) == 6


def test_a_file_chooses_classes(folder, data_dir, tmp_path):
    classes = tmp_path / "classes.txt"
    classes.write_text("cat\nant\n")
    chosen = source(classes=str(classes))
    found = load_dataset(chosen, data_dir=data_dir)
    expected = load_dataset(chosen._replace(folder=str(folder)), data_dir=data_dir)
    assert found.label_names == ("ant", "cat") and len(found.train.labels) == 14
    assert_same_split(found.train, expected.train)


def test_parts_of_splits_do_not_overlap(data_dir):
    parts = source(train_split="train[:60%]", evaluation_split="train[60%:]")
    dataset = load_dataset(parts, data_dir=data_dir)
    names = [set(split.images.names()) for split in (dataset.train, dataset.evaluation)]
    assert [len(part) for part in names] == [13, 8] and not names[0] & names[1]
    with pytest.raises(UsageError, match="train_split.*evaluation_split"):
        load_dataset(parts._replace(evaluation_split="train[40%:]"), data_dir=data_dir)


def test_reading_needs_no_tensorflow(data_dir):
    load_dataset(source(), data_dir=data_dir)
    program = WITHOUT_TENSORFLOW + (
        f"found = load_dataset({source()}, data_dir={str(data_dir)!r})\n"
        "print(np.asarray(found.evaluation.images).shape, 'tensorflow' in sys.modules)"
    )
    result = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True
    )
    assert result.stdout.endswith(f"(9, {SIDE}, {SIDE}, 3) False\n"), result.stderr


@pytest.mark.parametrize(
    ("fields", "named"),
    [
        ({"train_split": "training"}, "no split 'training'.*train, validation"),
        ({"train_split": "train[:0]"}, "split 'train\\[:0\\]'.*no images"),
        ({"classes": "missing.txt"}, "config.data.classes=missing.txt.*cannot be read"),
    ],
)
def test_what_is_missing_is_named(fields, named, data_dir):
    with pytest.raises(UsageError, match=named) as error:
        load_dataset(source(**fields), data_dir=data_dir)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize(("text", "named"), [("ant\n", "ant"), ("ant\ndog\n", "dog")])
def test_class_files_that_do_not_fit_are_refused(text, named, data_dir, tmp_path):
    classes = tmp_path / "classes.txt"
    classes.write_text(text)
    with pytest.raises(UsageError, match=named) as error:
        load_dataset(source(classes=str(classes)), data_dir=data_dir)
    assert f"config.data.classes={classes}" in str(error.value)


def test_a_set_that_is_not_prepared_is_refused(tmp_path):
    with pytest.raises(UsageError, match="photo_net.*array_record.*data_dir") as error:
        load_dataset(source(), data_dir=tmp_path)
    assert f"{tmp_path}/photo_net/1.0.0" in str(error.value)
    assert "\n" not in str(error.value)


def test_a_format_without_random_access_is_refused(folder, tmp_path):
    pytest.importorskip("tensorflow")  # writes this format
    data_dir = prepare(folder, tmp_path, "tfrecord")
    with pytest.raises(UsageError, match="tfrecord.*array_record.*streaming") as error:
        load_dataset(source(), data_dir=data_dir)
    assert f"{data_dir}/photo_net/1.0.0" in str(error.value)
    assert "\n" not in str(error.value)


def test_a_set_in_both_formats_is_read(data_dir, folder, tmp_path):
    """As the documented command leaves it, which converts a set."""
    both = prepare(folder, tmp_path, "tfrecord")
    converted = both / "photo_net" / "1.0.0"
    for path in (data_dir / "photo_net" / "1.0.0").glob("*array_record*"):
        shutil.copy(path, converted)
    info = json.loads((converted / "dataset_info.json").read_text())
    info["alternativeFileFormats"] = ["array_record"]
    (converted / "dataset_info.json").write_text(json.dumps(info))
    found, expected = (load_dataset(source(), data_dir=d) for d in (both, data_dir))
    assert_same_split(found.train, expected.train)


def test_damaged_records_are_named(folder, tmp_path):
    data_dir = prepare(folder, tmp_path)
    (path,) = (data_dir / "photo_net" / "1.0.0").glob("*train*")
    content = bytearray(path.read_bytes())
    content[100:200] = bytes(100)
    path.write_bytes(content)
    with pytest.raises(UsageError, match="records.*damaged") as error:
        load_dataset(source(), data_dir=data_dir)
    assert str(path.parent) in str(error.value) and "\n" not in str(error.value)


def test_the_digits_are_not_streamed():
    with pytest.raises(UsageError, match="streaming=True.*digits"):
        load_dataset(source()._replace(name="digits"))
