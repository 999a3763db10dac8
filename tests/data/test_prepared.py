"""The real builders on small archives in the official layouts."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import jax
import numpy as np
import pytest

pytest.importorskip("tensorflow")

from isojax.data import load_dataset
from isojax.data.prepared import fill_cache
from isojax.data.records import square
from isojax.errors import UsageError
from tests.data import miniatures
from tests.data.miniatures import draw, is_grey, label_of, number_of
from tests.data.test_downloads import CLOSED

ROOT = Path(__file__).parent.parent.parent


@pytest.fixture(scope="module")
def data_dir(tmp_path_factory):
    """A folder with the archives of all miniatures, their checksums known."""
    folder = tmp_path_factory.mktemp("data")
    with pytest.MonkeyPatch.context() as patch:
        for variable in ("http_proxy", "https_proxy"):
            patch.setenv(variable, CLOSED)  # nothing may ask the network
        with miniatures.known(miniatures.ARCHIVES, folder):
            yield folder


def load(name, data_dir, /, **fields):
    return load_dataset(miniatures.source(name, **fields), data_dir=data_dir)


@pytest.mark.parametrize("name", miniatures.ARCHIVES)
def test_every_image_arrives_once_with_its_label(name, data_dir):
    dataset = load(name, data_dir)
    unlabelled = miniatures.UNLABELLED if name == "stl10" else 0
    test_numbers = range(miniatures.FIRST_TEST, 1000 + miniatures.TEST[name])
    train_numbers = [*range(miniatures.TRAIN[name])]
    pretrain_numbers = [
        *train_numbers,
        *range(miniatures.FIRST_UNLABELLED, miniatures.FIRST_UNLABELLED + unlabelled),
    ]
    for split, expected in (
        (dataset.train, train_numbers),
        (dataset.pretrain, pretrain_numbers),
        (dataset.evaluation, test_numbers),
    ):
        numbers = [number_of(image) for image in split.images]
        assert sorted(numbers) == list(expected)
        assert numbers != sorted(numbers)  # classes are mixed
        np.testing.assert_array_equal(
            split.labels, [label_of(name, number) for number in numbers]
        )
        tolerance = 40 if name == "tiny_imagenet" else 0  # JPEG
        for number, image in zip(numbers[:20], split.images, strict=False):
            original = draw(number, label_of(name, number), miniatures.SIDE[name])
            if name == "tiny_imagenet" and is_grey(number):
                assert (image == image[..., :1]).all()
                continue
            assert np.abs(image.astype(int) - original).mean() <= tolerance / 8
            assert np.abs(image.astype(int) - original).max() <= tolerance * 3
    assert dataset.num_classes == len(dataset.label_names) == miniatures.CLASSES[name]
    expected = "validation" if name == "tiny_imagenet" else "test"
    assert dataset.evaluation_name == expected


def test_class_names_are_those_of_the_archive(data_dir):
    names = {name: load(name, data_dir).label_names[:2] for name in miniatures.ARCHIVES}
    assert names == {
        "cifar10": ("class0", "class1"),
        "cifar100": ("fine0", "fine1"),
        "stl10": ("class0", "class1"),
        "tiny_imagenet": tuple(
            f"{wnid} name of {wnid}, other name" for wnid in miniatures.WNIDS[:2]
        ),
    }


def test_the_order_is_the_same_in_another_folder(data_dir, tmp_path):
    first = load("cifar10", data_dir)
    with miniatures.known(["cifar10"], tmp_path):
        second = load("cifar10", tmp_path)
    np.testing.assert_array_equal(first.train.images, second.train.images)
    np.testing.assert_array_equal(first.train.labels, second.train.labels)


def test_a_damaged_cache_is_reported_and_decoded_again(data_dir, capsys):
    expected = np.array(load("cifar100", data_dir).evaluation.images)
    capsys.readouterr()
    file = data_dir / "isojax" / "cifar100-32" / "test" / "images.bin"
    content = bytearray(file.read_bytes())
    content[5000] ^= 1
    file.write_bytes(content)
    again = load("cifar100", data_dir).evaluation.images
    np.testing.assert_array_equal(again, expected)
    out = capsys.readouterr().out
    assert f"The images in {file.parent} are damaged (the checksum differs)" in out
    assert "Decoding test of cifar100, 100 images" in out
    load("cifar100", data_dir)
    assert capsys.readouterr().out == ""


@pytest.mark.parametrize("damage", ["cut", "flipped", "empty", "gone"])
def test_the_folder_of_damaged_records_is_named(damage, data_dir, tmp_path):
    load("cifar10", data_dir)
    shutil.copytree(data_dir / "cifar10", tmp_path / "cifar10")
    (records,) = tmp_path.glob("cifar10/*/cifar10-train.tfrecord*")
    content = records.read_bytes()
    flipped = content[:5000] + bytes([content[5000] ^ 4]) + content[5001:]
    if damage == "gone":
        records.unlink()
    else:
        kinds = {"cut": content[: len(content) // 2], "flipped": flipped, "empty": b""}
        records.write_bytes(kinds[damage])
    with pytest.raises(UsageError, match=f"damaged. Delete {records.parent} and run"):
        load("cifar10", tmp_path)
    assert not (tmp_path / "isojax" / "cifar10-32" / "train").exists()


def test_a_split_that_cannot_be_replaced_is_refused_first(data_dir, monkeypatch):
    def refuse(folder):
        raise UsageError(f"{folder} cannot be replaced")

    load("cifar10", data_dir)
    folder = data_dir / "isojax" / "cifar10-32" / "train"
    (folder / "labels.bin").write_bytes(b"")
    monkeypatch.setattr("isojax.data.prepared.remove_images", refuse)
    monkeypatch.setattr("isojax.data.prepared.prepare", None)  # nothing is downloaded
    with pytest.raises(UsageError, match=f"{folder} cannot be replaced"):
        load("cifar10", data_dir)
    monkeypatch.undo()
    assert len(load("cifar10", data_dir).train.labels) == 320


def test_a_process_that_waited_for_another_does_not_decode_again(data_dir, monkeypatch):
    load("cifar10", data_dir)
    monkeypatch.setattr("fcntl.flock", _busy_at_first)
    monkeypatch.setattr("isojax.data.prepared._decode", None)
    folder = data_dir / "isojax" / "cifar10-32" / "train"
    fill_cache(folder, "cifar10", "train", resolution=32, data_dir=data_dir)


def _busy_at_first(file, operation):
    if operation & 4:  # LOCK_NB
        raise BlockingIOError


def test_a_cached_set_and_the_digits_need_no_tensorflow(data_dir):
    load("stl10", data_dir)
    program = f"""
import sys
from isojax.data import ImageSource, load_dataset
from tests.data import miniatures
load_dataset(ImageSource("digits", 28))
dataset = load_dataset(miniatures.source("stl10"), data_dir={str(data_dir)!r})
assert len(dataset.pretrain.images) == {320 + miniatures.UNLABELLED}
heavy = [name for name in sys.modules if name.startswith("tensorflow")]
assert not heavy, heavy
"""
    subprocess.run([sys.executable, "-c", program], cwd=ROOT, check=True, timeout=60)


@pytest.mark.long
def test_train_reports_a_missing_network_in_one_line(tmp_path):
    process = subprocess.run(
        [
            *(sys.executable, "train.py", f"--data_dir={tmp_path}"),
            *("--config.data.name=cifar10", "--config.data.resolution=32"),
        ],
        cwd=ROOT,
        env=os.environ | {"http_proxy": CLOSED, "https_proxy": CLOSED},
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert process.returncode == 2, process.stderr
    assert process.stderr.startswith("error: cifar10 has to be downloaded")
    assert process.stderr.count("\n") == 1


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"name": "cifar1O"}, "no data set 'cifar1O'; the nearest names are cifar10"),
        ({"name": "tinyimagenet"}, "the nearest names are tiny_imagenet"),
        ({"name": "imdb_reviews"}, "no 8-bit images with one class label each"),
        (
            {"name": "cifar10/x"},
            "no version or configuration .*cifar10/x; write cifar10",
        ),
        ({"name": "cifar10_corrupted/x"}, "write cifar10_corrupted/CONFIG with one of"),
        ({"train_split": "trian"}, "no split 'trian'; it has train, test"),
        ({"evaluation_split": "test[:1"}, "no split 'test.:1'; it has train, test"),
        ({"evaluation_split": "test[:0%]"}, "'test.:0%.' of cifar10 .* no images"),
        ({"evaluation_split": "test[9:5]"}, "'test.9:5.' of cifar10 .* no images"),
    ],
)
def test_what_does_not_exist_is_refused_with_what_does(fields, message, data_dir):
    with pytest.raises(UsageError, match=message):
        load("cifar10", data_dir, **fields)


def test_another_resolution_is_another_cache(data_dir):
    large = load("cifar10", data_dir, resolution=48)
    assert large.train.images.shape == (320, 48, 48, 3)
    assert load("cifar10", data_dir).train.images.shape == (320, 32, 32, 3)


def test_images_are_resized_by_the_shorter_side_and_cropped():
    image = np.random.default_rng(0).integers(0, 256, (60, 101, 3), dtype=np.uint8)
    resized = jax.image.resize(image.astype(np.float32), (24, 40, 3), "cubic")
    expected = np.clip(resized, 0, 255)[:, 8:32]
    assert np.abs(np.asarray(square(image, 24)) - expected).max() < 0.51
    upright = np.asarray(square(image.transpose(1, 0, 2), 24))
    np.testing.assert_array_equal(upright, np.swapaxes(square(image, 24), 0, 1))


def test_an_image_of_the_right_size_is_left_alone_and_a_small_one_enlarged():
    image = np.arange(48, dtype=np.uint8).reshape(4, 4, 3)
    np.testing.assert_array_equal(square(image, 4), image)
    assert square(image, 9).shape == (9, 9, 3)
