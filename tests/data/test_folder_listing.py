import os

import numpy as np
import pytest

from isojax.data.folder_listing import (
    fingerprint,
    list_images,
    only_classes,
    read_classes,
    split_names,
)
from isojax.errors import UsageError


@pytest.fixture
def make(tmp_path):
    """Returns a function that creates empty files below a folder, and the folder."""

    def create(*names):
        for name in names:
            path = tmp_path / "images" / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.touch()
        return tmp_path / "images"

    return create


def test_classes_are_sorted_folders_and_files_are_sorted_in_them(make):
    folder = make("train/b/2.png", "train/b/10.JPG", "train/a/x/1.webp", "test/b/1.bmp")
    train = list_images(folder, "train")
    assert train.names == ("train/a/x/1.webp", "train/b/10.JPG", "train/b/2.png")
    np.testing.assert_array_equal(train.labels, [0, 1, 1])
    assert train.label_names == ("a", "b")
    test = list_images(folder, "test", label_names=train.label_names)
    assert test.names == ("test/b/1.bmp",)
    np.testing.assert_array_equal(test.labels, [1])
    assert split_names(folder) == ("test", "train")


@pytest.mark.parametrize("names", [("1.png", "2.png"), ("train/1.png", "train/2.png")])
def test_images_outside_of_class_folders_have_no_labels(make, names):
    files = list_images(make(*names), "train")
    assert (files.names, files.label_names) == (names, ())
    np.testing.assert_array_equal(files.labels, [-1, -1])


def test_a_plus_joins_splits(make):
    folder = make("train/a/1.png", "train/b/1.png", "unlabelled/1.png")
    files = list_images(folder, "train+unlabelled")
    np.testing.assert_array_equal(files.labels, [0, 1, -1])
    assert files.label_names == ("a", "b")


def test_other_and_hidden_files_are_skipped(make):
    folder = make("1.png", ".2.png", "notes.txt", ".cache/3.png")
    assert list_images(folder, "train").names == ("1.png",)


@pytest.mark.parametrize(
    ("names", "split", "message"),
    [
        ((), "train", "no folder .*images; check"),
        (("notes.txt",), "train", "images contains no images .*jpg.* and no folder"),
        (("train/notes.txt",), "train", "images/train contains no images; put"),
        (("train/a/1.png",), "val", "no folder 'val'; it has 1 folder: train"),
        (("train/a/1.png", "train/2.png"), "train", "1 images outside .* move"),
        (("train/a/1.png", "train/b/c.txt"), "train", "1 class folder: b .* remove"),
    ],
)
def test_folders_without_usable_images_are_refused(make, names, split, message):
    with pytest.raises(UsageError, match=message) as error:
        list_images(make(*names), split)
    assert "\n" not in str(error.value)


def test_a_file_is_no_folder(make):
    with pytest.raises(UsageError, match="1.png is a file"):
        list_images(make("1.png") / "1.png", "train")


def test_unknown_classes_are_refused(make):
    folder = make("test/b/1.png", "test/c/1.png")
    with pytest.raises(UsageError, match="folder: c .*2 classes: a, b.*remove"):
        list_images(folder, "test", label_names=("a", "b"))


def test_the_fingerprint_follows_names_sizes_times_and_classes(make):
    folder = make("train/a/1.png", "train/b/1.png")
    files = list_images(folder, "train")
    found = [fingerprint(files)]
    path = folder / "train/a/1.png"
    path.write_bytes(b"1")
    found.append(fingerprint(files))
    os.utime(path, (0, 0))
    found.append(fingerprint(files))
    path.rename(folder / "train/a/2.png")
    found.append(fingerprint(list_images(folder, "train")))
    assert fingerprint(list_images(folder, "train")) == found[-1]
    (folder / "train/b").rename(folder / "train/c")
    found.append(fingerprint(list_images(folder, "train")))
    assert len(set(found)) == 5


def test_a_file_that_vanished_is_named(make):
    files = list_images(make("1.png"), "train")
    (files.root / "1.png").unlink()
    with pytest.raises(UsageError, match="1.png cannot be read"):
        fingerprint(files)


def test_a_file_of_classes_selects_them_in_sorted_order(tmp_path):
    for name in ("a", "b", "c"):
        (tmp_path / "train" / name).mkdir(parents=True)
        (tmp_path / "train" / name / f"{name}.png").touch()
    classes = tmp_path / "classes.txt"
    classes.write_text("c  # cat\n\n# nothing\na\n")
    names = read_classes(classes)
    assert names == ("a", "c")
    files = only_classes(list_images(tmp_path, "train"), names, origin="classes.txt")
    assert files.names == ("train/a/a.png", "train/c/c.png")
    assert files.labels.tolist() == [0, 1] and files.label_names == names
    with pytest.raises(UsageError, match=r"lacks.*\bx\b.*classes=classes.txt"):
        only_classes(files, ("a", "x"), origin="classes.txt")


def test_a_file_of_classes_written_on_windows_is_read(tmp_path):
    classes = tmp_path / "classes.txt"
    classes.write_bytes("\ufeffa\r\n\r\nfür\r\n".encode())
    assert read_classes(classes) == ("a", "für")


def test_a_file_of_classes_needs_class_folders(make):
    files = list_images(make("1.png"), "train")
    with pytest.raises(UsageError, match="classes=c.txt needs class folders, which"):
        only_classes(files, ("a", "b"), origin="c.txt")


@pytest.mark.parametrize("folder", ["gs://bucket/pets", "https://host/pets"])
def test_a_folder_that_is_not_local_is_refused_as_written(folder):
    with pytest.raises(UsageError, match=f"{folder} is not a local path; copy"):
        list_images(folder, "train")


@pytest.mark.parametrize(
    ("content", "named"), [("", "contains no"), ("a\nb\na\n", "a"), (None, "cannot")]
)
def test_a_bad_file_of_classes_is_refused(tmp_path, content, named):
    classes = tmp_path / "classes.txt"
    if content is not None:
        classes.write_text(content)
    with pytest.raises(UsageError, match=f"data.classes={classes}.*{named}"):
        read_classes(classes)
