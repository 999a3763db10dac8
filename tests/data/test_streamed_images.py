"""Image files that are decoded when they are read, like an array."""

import numpy as np
import pytest
from PIL import Image

from isojax.data import channel_statistics, full_batches
from isojax.data.dataset import images_checksum
from isojax.data.folder_listing import list_images
from isojax.data.overlap import count_common, is_overlapping
from isojax.data.streamed_images import CENTRE, FileReader, StreamedImages
from isojax.errors import UsageError
from tests.data.image_files import write_images

SIDE = 16


def stream(folder, split="train"):
    return StreamedImages(FileReader(list_images(folder, split)), SIDE)


@pytest.fixture
def folder(tmp_path):
    return write_images(tmp_path, per_class=4)


def test_an_image_is_the_resized_centre_of_its_file(folder):
    images = stream(folder)
    assert images.shape == (8, SIDE, SIDE, 3) and images.nbytes == 8 * SIDE * SIDE * 3
    for image, name in zip(np.asarray(images), images.names(), strict=True):
        with Image.open(folder / name) as picture:
            side = CENTRE * min(picture.size)
            left, top = ((length - side) / 2 for length in picture.size)
            box = (left, top, left + side, top + side)
            centre = picture.resize((SIDE, SIDE), Image.BICUBIC, box=box)
        np.testing.assert_allclose(image, np.asarray(centre), atol=6)


def test_selections_are_those_of_an_array_and_decode_nothing(folder, monkeypatch):
    images = stream(folder)
    everything = np.asarray(images)
    mask = np.arange(8) % 3 == 0
    for index in (slice(2, 7, 2), np.array([5, 0, 5]), mask):
        np.testing.assert_array_equal(images[index], everything[index])
    with monkeypatch.context() as patch:
        patch.setattr(FileReader, "read", None)
        assert images[mask][1:].shape == (2, SIDE, SIDE, 3)
        assert np.asarray(images[:0]).shape == (0, SIDE, SIDE, 3)


def test_full_batches_are_those_of_an_array(folder):
    images = stream(folder)
    pairs = zip(
        full_batches(images, 3), full_batches(np.asarray(images), 3), strict=True
    )
    for (batch, count), (expected, expected_count) in pairs:
        assert count == expected_count
        np.testing.assert_array_equal(batch, expected)


def test_statistics_are_those_of_an_array(folder):
    images = stream(folder)
    assert channel_statistics(images) == channel_statistics(np.asarray(images))


def test_common_images_are_found_by_name(folder):
    images = stream(folder)
    assert count_common(images[2:5], images[4:]) == 1
    assert is_overlapping(images[2:6], images[4:])
    assert not is_overlapping(images[:4], images[4:])


def test_the_checksum_depends_on_the_names(folder, tmp_path):
    checksum = images_checksum(stream(folder))
    assert images_checksum(stream(folder)[::-1]) != checksum
    moved = tmp_path / "moved"
    (folder / "train").rename(moved)
    moved.rename(folder / "train")  # as after a copy, the contents are not compared
    assert images_checksum(stream(folder)) == checksum
    (folder / "train/ant/000.jpg").rename(folder / "train/ant/100.jpg")
    assert images_checksum(stream(folder)) != checksum


def test_a_broken_file_is_reported_once_and_read_as_a_grey_image(folder, capsys):
    write_images(folder, per_class=100)
    images = stream(folder)
    broken = [folder / images.names()[number] for number in (0, 3)]
    broken[0].write_bytes(broken[0].read_bytes()[:300])
    broken[1].write_text("no image")
    for _ in range(2):
        decoded = np.asarray(images[:4])
        assert (decoded[[0, 3]] == 128).all() and not (decoded[1:3] == 128).all()
    lines = capsys.readouterr().out.splitlines()
    assert len(lines) == 2
    assert all(sum(str(path) in line for line in lines) == 1 for path in broken)


def test_more_broken_files_than_a_hundredth_are_refused(folder, capsys):
    images = stream(folder)
    for name in images.names()[:2]:
        (folder / name).write_text("no image")
    with pytest.raises(UsageError, match=f"2 of the 8 .*{folder}"):
        np.asarray(images)


def test_a_missing_file_is_an_error(folder):
    images = stream(folder)
    path = folder / images.names()[2]
    path.unlink()
    with pytest.raises(UsageError, match=str(path)):
        np.asarray(images)
