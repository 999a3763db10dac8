"""Damaged images in the records of tensorflow-datasets."""

import functools
import io

import numpy as np
import pytest
from PIL import Image

pytest.importorskip("tensorflow")

import tensorflow_datasets as tfds

from isojax.data import prepared, records
from isojax.errors import UsageError

COUNT, DAMAGED = 300, 277  # in the second batch


def encoded(number, kind):
    rng = np.random.default_rng(number)
    frames = [
        Image.fromarray(rng.integers(0, 256, (20, 24, 3), dtype=np.uint8))
        for _ in range(2)
    ]
    file = io.BytesIO()
    more = {"save_all": True, "append_images": frames[1:]} if kind == "GIF" else {}
    frames[0].save(file, kind, **more)
    return file.getvalue()


DAMAGES = {
    "empty": b"",
    "text": b"<html>not found</html>",
    "half of a PNG": encoded(0, "PNG")[:600],
    "half of a JPEG": encoded(0, "JPEG")[:600],
    "flipped in a PNG": encoded(0, "PNG")[:100] + b"!!" + encoded(0, "PNG")[102:],
    "several frames": encoded(0, "GIF"),
}


@functools.cache  # a name can be registered once in a process
def register_photos():
    class Photos(tfds.core.GeneratorBasedBuilder):
        """Builder whose image number DAMAGED in the file's order is `content`."""

        VERSION = tfds.core.Version("1.0.0")
        content = encoded(0, "PNG")

        def _info(self):
            features = {
                "image": tfds.features.Image(shape=(None, None, 3)),
                "label": tfds.features.ClassLabel(num_classes=2),
                "file": tfds.features.Text(),
            }
            return tfds.core.DatasetInfo(
                builder=self,
                features=tfds.features.FeaturesDict(features),
                disable_shuffling=True,
            )

        def _split_generators(self, dl_manager):
            return {"train": self._generate_examples()}

        def _generate_examples(self):
            for i in range(COUNT):
                content = self.content if i == DAMAGED else encoded(i % 7, "PNG")
                yield i, {"image": content, "label": i % 2, "file": f"photos/{i}.png"}

    return Photos


@pytest.fixture
def builder_class():
    return register_photos()


def fill(builder_class, data_dir):
    folder = data_dir / "isojax" / "photos-8" / "train"
    prepared.fill_cache(folder, "photos", "train", resolution=8, data_dir=data_dir)
    return folder


@pytest.mark.parametrize("damage", DAMAGES)
def test_an_image_that_cannot_be_decoded_is_named(
    damage, builder_class, tmp_path, monkeypatch
):
    monkeypatch.setattr(builder_class, "content", DAMAGES[damage])
    with pytest.raises(UsageError) as error:
        fill(builder_class, tmp_path)
    message = str(error.value)
    expected = (
        f"image {DAMAGED} of photos's train, file=photos/{DAMAGED}.png has "
        f"{len(DAMAGES[damage]):,} bytes and cannot be decoded ("
    )
    assert message.startswith(expected)
    assert f"delete {tmp_path}/photos/1.0.0 and run the same command" in message
    assert "\n" not in message and "{{" not in message and "[Op" not in message
    assert not (tmp_path / "isojax" / "photos-8" / "train").exists()


def test_whole_images_are_decoded_in_order(builder_class, tmp_path):
    folder = fill(builder_class, tmp_path)
    found = prepared.read_images(folder)
    for i in (0, 1, 255, 256, 299):
        number = 0 if i == DAMAGED else i % 7
        pixels = np.asarray(Image.open(io.BytesIO(encoded(number, "PNG"))))
        np.testing.assert_array_equal(found.images[i], records.square(pixels, 8))
    np.testing.assert_array_equal(found.labels, np.arange(COUNT) % 2)


def test_another_failure_is_not_taken_for_an_image(
    builder_class, tmp_path, monkeypatch
):
    def fail(*_, **__):
        raise records.tf.errors.InvalidArgumentError(None, None, "something else")

    monkeypatch.setattr(records.tfds, "as_numpy", fail)
    with pytest.raises(records.tf.errors.InvalidArgumentError, match="something else"):
        fill(builder_class, tmp_path)
