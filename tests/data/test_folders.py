"""Data sets of image files in folders."""

import os
import shutil
import time

import numpy as np
import pytest
from PIL import Image

from isojax.data import (
    channel_statistics,
    folder_cache,
    from_folder,
    load_dataset,
)
from isojax.data.folder_cache import square_image
from isojax.data.pictures import UndecodableImageError
from isojax.data.sources import ImageSource
from isojax.errors import UsageError

RNG = np.random.default_rng(0)


def noise(*shape):
    return RNG.integers(0, 256, shape, dtype=np.uint8)


def save(path, pixels, **options):
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(pixels).save(path, **options)


@pytest.fixture
def folder(tmp_path):
    """Two classes of three training and two test images of 8x8 grey pixels."""
    for split, count in (("train", 3), ("test", 2)):
        for name in ("cat", "dog"):
            for number in range(count):
                save(tmp_path / "pets" / split / name / f"{number}.png", noise(8, 8))
    return tmp_path / "pets"


@pytest.fixture
def load(folder, tmp_path):
    def loaded(path=folder, resolution=8):
        return from_folder(path, resolution=resolution, data_dir=tmp_path / "data")

    return loaded


def pixels_of(path):
    return np.asarray(Image.open(path))


def test_files_give_their_pixels_classes_and_splits(folder, load):
    dataset = load()
    assert dataset.label_names == ("cat", "dog") and dataset.num_classes == 2
    np.testing.assert_array_equal(dataset.train.labels, [0, 0, 0, 1, 1, 1])
    np.testing.assert_array_equal(dataset.evaluation.labels, [0, 0, 1, 1])
    assert dataset.pretrain is dataset.train
    assert dataset.train.images.shape == (6, 8, 8, 1)
    dog = pixels_of(folder / "train/dog/1.png")
    np.testing.assert_array_equal(dataset.train.images[4, ..., 0], dog)
    assert dataset.folder == str(folder)


def test_a_flat_folder_has_no_labels(folder, load):
    dataset = load(folder / "train/cat")
    np.testing.assert_array_equal(dataset.pretrain.labels, [-1, -1, -1])
    assert dataset.num_classes == len(dataset.train.labels) == 0
    assert len(dataset.evaluation.labels) == 0


def test_the_test_folder_may_be_missing(folder, load):
    shutil.rmtree(folder / "test")
    assert len(load().evaluation.labels) == 0


def test_one_coloured_file_gives_all_images_three_channels(folder, load):
    save(folder / "test/cat/0.png", noise(8, 8, 3))
    dataset = load()
    assert dataset.train.images.shape[-1] == dataset.evaluation.images.shape[-1] == 3
    cat = pixels_of(folder / "train/cat/0.png")
    for channel in range(3):
        np.testing.assert_array_equal(dataset.train.images[0, ..., channel], cat)


@pytest.mark.parametrize(
    ("mode", "name"),
    [("RGBA", "a.png"), ("LA", "b.png"), ("P", "c.png"), ("CMYK", "d.jpg")]
    + [("RGB", "e.webp"), ("RGB", "f.bmp"), ("I;16", "g.png"), ("1", "h.png")]
    + [("RGB", "i.jpg"), ("L", "j.jpeg"), ("I;16", "k.tiff")],
)
def test_every_mode_and_format_is_decoded(folder, load, mode, name, capsys):
    path = folder / "train/cat" / name
    level = 0x7FFF if mode == "I;16" else 127
    image = Image.fromarray(np.full((9, 8), level, np.uint16 if level > 255 else "u1"))
    if mode not in ("I;16", "1"):
        image = image.convert("RGB").convert(mode)
    elif mode == "1":
        image = Image.new("1", (8, 9), 1)
    image.save(path, **({"lossless": True} if path.suffix == ".webp" else {}))
    image = load().train.images[list(sorted(os.listdir(path.parent))).index(name)]
    expected = 255 if mode == "1" else 127
    np.testing.assert_allclose(image, expected, atol=3)
    assert "left out" not in capsys.readouterr().out


def test_images_are_turned_upright(folder, load):
    pixels = noise(8, 8)
    exif = Image.Exif()
    exif[0x0112] = 6
    save(folder / "train/cat/0.png", pixels, exif=exif)
    np.testing.assert_array_equal(
        load().train.images[0, ..., 0], np.rot90(pixels, k=-1)
    )


def test_the_centred_square_is_resized():
    pixels = noise(6, 10, 3)
    np.testing.assert_array_equal(square_image(pixels, (6, 6, 3)), pixels[:, 2:8])
    # As if the whole image were resized and then cropped.
    wide = noise(40, 80, 3)
    whole = Image.fromarray(wide).resize((20, 10), Image.Resampling.BICUBIC)
    np.testing.assert_array_equal(
        square_image(wide, (10, 10, 3)), np.asarray(whole)[:, 5:15]
    )
    # Antialiased: a fine chessboard becomes grey.
    board = (255 * (np.indices((64, 64)).sum(axis=0) % 2)).astype(np.uint8)
    small = square_image(np.repeat(board[..., None], 3, axis=-1), (8, 8, 1))
    np.testing.assert_allclose(small, 127.5, atol=1)


@pytest.mark.parametrize("shape", [(1, 1, 3), (1, 9, 3)])
def test_a_single_row_is_refused(shape):
    with pytest.raises(UndecodableImageError, match=f"{shape[1]}x1 pixels"):
        square_image(noise(*shape), (8, 8, 3))


def test_broken_files_are_counted_and_named(folder, load, capsys, monkeypatch):
    whole = load()
    capsys.readouterr()
    broken = folder / "train/dog"
    (broken / "0.jpg").write_text("no image")
    save(broken / "1.jpg", noise(64, 64, 3))
    content = (broken / "1.jpg").read_bytes()
    (broken / "1.jpg").write_bytes(content[: len(content) // 2])
    save(broken / "2.jpg", noise(1, 1, 3))
    Image.new("1", (20_000, 20_000)).save(broken / "3.png")
    dataset = load()
    np.testing.assert_array_equal(dataset.train.labels, whole.train.labels)
    output = capsys.readouterr().out
    assert f"4 of 10 files in {folder} could not be decoded" in output
    for name in ("train/dog/0.jpg (", "train/dog/1.jpg (", "train/dog/2.jpg ("):
        assert name in output
    assert "it has only 1x1 pixels" in output
    assert output.count("\n") == 2


def test_an_image_of_too_many_pixels_is_named(folder, load, capsys):
    Image.new("1", (20_000, 20_000)).save(folder / "train/cat/9.png")
    assert len(load().train.labels) == 6
    assert "train/cat/9.png (" in capsys.readouterr().out


def test_decoded_images_are_reused_until_a_file_changes(folder, load, monkeypatch):
    first = load()
    with monkeypatch.context() as context:
        context.setattr(folder_cache, "_decode_file", pytest.fail)
        again = load()
    np.testing.assert_array_equal(first.train.images, again.train.images)
    time.sleep(0.01)
    save(folder / "train/cat/0.png", noise(8, 8))
    changed = load()
    assert not np.array_equal(first.train.images[0], changed.train.images[0])
    np.testing.assert_array_equal(first.train.images[1:], changed.train.images[1:])
    assert load(resolution=4).train.images.shape[1] == 4


def test_images_of_older_files_are_removed(folder, load, tmp_path):
    load()
    os.utime(folder / "train/cat/0.png", (0, 0))
    load()
    (cached,) = (tmp_path / "data/isojax/folders").iterdir()
    assert sorted(path.name.split("-")[0] for path in cached.glob("t*")) == [
        "test",
        "train",
    ]


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write everywhere")
def test_a_folder_that_is_not_writable_is_read(folder, load):
    for path in [folder, *folder.rglob("*")]:
        path.chmod(0o555)
    assert len(load().train.labels) == 6


def test_nothing_is_written_to_the_folder(folder, load):
    before = sorted(folder.rglob("*"))
    load()
    assert sorted(folder.rglob("*")) == before


def remove(*names):
    return lambda folder: [shutil.rmtree(folder / name) for name in names]


def same_images(folder):
    shutil.rmtree(folder / "test")
    shutil.copytree(folder / "train", folder / "test")


def only_text(folder):
    for path in (folder / "train/cat").iterdir():
        path.write_text("no image")


def flat_training(folder):
    for path in list((folder / "train").glob("*/*")):
        path.rename(folder / "train" / f"{path.parent.name}{path.name}")
    remove("train/cat", "train/dog")(folder)


def flat_test(folder):
    for path in list((folder / "test").glob("*/*")):
        path.rename(folder / "test" / f"{path.parent.name}{path.name}")
    remove("test/cat", "test/dog")(folder)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (remove("."), "there is no folder .*pets; check the path"),
        (remove("train/cat", "train/dog"), "train contains no images; put"),
        (remove("train"), "no folder 'train'; it has 1 folder: test. Move"),
        (remove("train/cat"), "one class folder, dog. Add a second"),
        (remove("test/cat"), "class cat has no images in .*pets/test; add"),
        (same_images, "train and test of .*pets contain the same images"),
        (only_text, r"no image of class cat .* train/cat/0.png \(.*\); replace"),
        (flat_training, "class folders in test, but none in train; sort"),
        (flat_test, "test has images outside of class folders; sort"),
    ],
)
def test_unusable_folders_are_refused_in_one_line(folder, load, change, message):
    change(folder)
    with pytest.raises(UsageError, match=message) as error:
        load()
    assert "\n" not in str(error.value)


def test_only_the_default_test_split_may_be_missing(folder, tmp_path):
    source = ImageSource("folder", 8, evaluation_split="val", folder=str(folder))
    with pytest.raises(UsageError, match="no folder 'val'; it has 2 folders: test, tr"):
        load_dataset(source, data_dir=tmp_path / "data")


def test_one_class_in_the_file_of_classes_is_refused(folder, tmp_path):
    classes = tmp_path / "classes.txt"
    classes.write_text("cat\n")
    source = ImageSource("folder", 8, folder=str(folder), classes=str(classes))
    with pytest.raises(UsageError, match="classes.txt names one class, cat; name at"):
        load_dataset(source, data_dir=tmp_path / "data")


@pytest.mark.parametrize("resolution", ["16", 16.5, 0, -1])
def test_the_resolution_is_a_positive_integer(tmp_path, resolution):
    with pytest.raises(UsageError, match="resolution="):
        from_folder(tmp_path, resolution=resolution)


def test_a_part_of_a_folder_is_held_out(folder, tmp_path):
    source = ImageSource("", 8, validation_fraction=1 / 3, folder=str(folder))
    dataset = load_dataset(source, data_dir=tmp_path / "data")
    assert [len(split.labels) for split in dataset[:3]] == [4, 4, 2]


def test_images_larger_than_the_memory_are_refused(folder, load):
    with pytest.raises(UsageError, match="memory. Set config.data.streaming=true"):
        load(resolution=10**6)


def test_digits_written_as_files_are_the_same_data_set(tmp_path):
    digits = load_dataset(ImageSource("digits", 28))
    for split, part in (("train", digits.train), ("test", digits.evaluation)):
        for name in digits.label_names:
            (tmp_path / "digits" / split / name).mkdir(parents=True)
        for number, (image, label) in enumerate(zip(*part, strict=True)):
            file = f"digits/{split}/{label}/{number:04}.png"
            Image.fromarray(image[..., 0]).save(tmp_path / file)
    dataset = from_folder(
        tmp_path / "digits", resolution=28, data_dir=tmp_path / "data"
    )
    for ours, theirs in ((dataset.train, digits.train), (dataset[2], digits[2])):
        order = np.argsort(theirs.labels, kind="stable")
        np.testing.assert_array_equal(ours.images, theirs.images[order])
        np.testing.assert_array_equal(ours.labels, theirs.labels[order])
    assert channel_statistics(dataset.train.images) == channel_statistics(
        digits.train.images
    )
