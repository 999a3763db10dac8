"""Batches of random crops that are decoded while training."""

import math
from types import SimpleNamespace

import numpy as np
import pytest
from PIL import Image

from isojax.data.augment.crop import CropSettings
from isojax.data.batches import epoch_order
from isojax.data.folder_listing import list_images
from isojax.data.streamed_batches import crop_batches, crop_draws, random_crops
from isojax.data.streamed_images import FileReader, StreamedImages
from tests.data.image_files import write_images

SIDE = 12
CROPS = (CropSettings((0.08, 1.0), (3 / 4, 4 / 3)),) * 2


@pytest.fixture(scope="module")
def files(tmp_path_factory):
    folder = write_images(tmp_path_factory.mktemp("images"), per_class=7)
    return list_images(folder, "train")


def batches(files, crops=CROPS, **changes):
    images = StreamedImages(FileReader(files), SIDE)
    options = dict(crops=crops, batch_size=4, seed=5, epoch=2) | changes
    return list(crop_batches(images, files.labels, **options))


def assert_equal(found, expected):
    assert len(found) == len(expected) > 0
    for one, other in zip(found, expected, strict=True):
        assert one.keys() == other.keys()
        for name in one:
            assert one[name].dtype == other[name].dtype
            np.testing.assert_array_equal(one[name], other[name])


def test_images_come_in_the_order_of_the_epoch_with_their_labels(files):
    found = batches(files)
    assert len(found) == 3 and found[0]["crops"].shape == (4, 2, SIDE, SIDE, 3)
    indices = np.concatenate([batch["indices"] for batch in found])
    np.testing.assert_array_equal(indices, epoch_order(5, 2, 14)[:12])
    labels = np.concatenate([batch["labels"] for batch in found])
    np.testing.assert_array_equal(labels, files.labels[indices])


def test_batches_depend_on_seed_epoch_and_number_alone(files):
    expected = batches(files)
    assert_equal(batches(files), expected)
    assert_equal(batches(files, first=1), expected[1:])


def test_processes_share_every_batch(files):
    parts = [batches(files, part=(process, 2)) for process in range(2)]
    joined = [
        {name: np.concatenate([one[name], other[name]]) for name in one}
        for one, other in zip(*parts, strict=True)
    ]
    assert_equal(joined, batches(files))


def test_crops_differ_between_views_epochs_seeds_and_images(files):
    images = StreamedImages(FileReader(files), SIDE)
    made = [
        random_crops(images, index, crops=CROPS, seed=seed, epoch=epoch)
        for index, seed, epoch in [(0, 5, 2), (1, 5, 2), (0, 6, 2), (0, 5, 3)]
    ]
    views = [view.tobytes() for crops in made for view in crops]
    assert len(set(views)) == len(views)
    draws = [crop_draws(*numbers) for numbers in [(5, 2, 0), (5, 2, 1), (2, 5, 0)]]
    assert len(np.unique(draws)) == np.size(draws)
    assert crop_draws(2**64 - 1, 0, 0).shape == (2, 22)


def test_the_largest_crop_is_the_resized_file(files):
    images = StreamedImages(FileReader(files), SIDE)
    with Image.open(files.root / files.names[3]) as picture:
        whole = np.asarray(picture.resize((SIDE, SIDE), Image.BICUBIC))
        ratio = picture.width / picture.height
    exactly = CropSettings((1.0, 1.0), (ratio, ratio))
    for view in random_crops(images, 3, crops=(exactly,) * 2, seed=0, epoch=0):
        np.testing.assert_allclose(view, whole, atol=6)


def test_each_view_has_its_own_crops(files):
    images = StreamedImages(FileReader(files), SIDE)
    small = CropSettings((0.01, 0.02), (1.0, 1.0))
    deviations = []
    for index in range(len(images)):
        pair = random_crops(images, index, crops=(small, CROPS[0]), seed=0, epoch=0)
        deviations.append([view.std(axis=(0, 1)).mean() for view in pair])
    small_crops, large_crops = np.mean(deviations, axis=0)
    assert small_crops < 0.5 * large_crops


def test_areas_and_ratios_of_the_boxes_are_uniform(monkeypatch):
    """The boxes of many images, of which none is decoded."""
    found = []

    oblong = SimpleNamespace(height=375, width=500)
    reader = SimpleNamespace(read=lambda number, use: use(oblong))

    def record(image, boxes, *, side):
        found.extend(boxes)
        return np.zeros((2, side, side, 3), np.uint8)

    monkeypatch.setattr("isojax.data.streamed_batches.crop", record)
    images = StreamedImages(reader, SIDE, np.zeros(2000, int))
    for index in range(2000):
        random_crops(images, index, crops=CROPS, seed=0, epoch=0)
    top, left, height, width = np.array(found).T
    assert len(found) == 4000 and (top + height <= 375).all()
    assert (left + width <= 500).all()
    area, ratio = height * width / (375 * 500), np.log(width / height)
    assert 0.078 < area.min() < 0.09
    assert -math.log(4 / 3) - 0.02 < ratio.min() < ratio.max() < math.log(4 / 3) + 0.02
    assert abs(ratio.mean()) < 0.03
    assert np.corrcoef(area[::2], area[1::2])[0, 1] < 0.1  # independent views


def test_large_files_are_decoded_at_a_smaller_size(tmp_path):
    rows, columns = np.mgrid[:400, :480].astype(np.float32)
    waves = [np.sin(rows / 60 + c) * np.cos(columns / (50 + c)) for c in range(3)]
    pixels = np.round(127.5 + 100 * np.stack(waves, axis=-1)).astype(np.uint8)
    for name in ("photo.jpg", "photo.png"):
        folder = tmp_path / name / "train"
        folder.mkdir(parents=True)
        Image.fromarray(pixels).save(folder / name, quality=95)
    jpeg, png = (
        StreamedImages(FileReader(list_images(tmp_path / name, "train")), SIDE)
        for name in ("photo.jpg", "photo.png")
    )
    sizes = []
    jpeg.reader.read(0, lambda image: sizes.append(image.pixels(0.5).shape))
    assert sizes == [(200, 240, 3)]
    for epoch in range(10):
        views, expected = (
            random_crops(images, 0, crops=CROPS, seed=0, epoch=epoch)
            for images in (jpeg, png)
        )
        np.testing.assert_allclose(views, expected, atol=8)
