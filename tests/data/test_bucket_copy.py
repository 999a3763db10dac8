"""Prepared data sets in a bucket, which is in the memory of this process."""

import threading
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest

from isojax.data import bucket_copy, cache, disk, load_dataset, sources
from isojax.data.sources import ImageSource
from isojax.errors import UsageError
from isojax.runs.bucket import Bucket

URL = "memory://bkt/data"
RNG = np.random.default_rng(0)
IMAGES = {
    split: RNG.integers(0, 256, (count, 4, 4, 3), dtype=np.uint8)
    for split, count in (("train", 6), ("test", 4))
}


@pytest.fixture
def bucket(memory_bucket, tmp_path, monkeypatch):
    """The bucket with the decoded images of a set named `pets`."""
    monkeypatch.setenv("TFDS_DATA_DIR", str(tmp_path / "local"))
    bucket = Bucket(URL)
    for split, images in IMAGES.items():
        name = f"isojax/pets-4/{split}"
        folder = tmp_path / "prepared" / name
        folder.parent.mkdir(parents=True, exist_ok=True)
        cache.write_images(
            folder,
            [(images, np.arange(len(images)) % 2)],
            image_shape=(4, 4, 3),
            label_names=["cat", "dog"],
            splits=["train", "test"],
        )
        bucket.upload({f"{name}/{path.name}": path for path in folder.iterdir()})
    return bucket


@pytest.fixture
def downloaded(monkeypatch):
    """The names of the objects that were downloaded."""
    names, download = [], Bucket.download

    def record(self, batch, folder):
        names.extend(batch)
        download(self, batch, folder)

    monkeypatch.setattr(Bucket, "download", record)
    return names


def load(**fields):
    return load_dataset(ImageSource("pets", 4, **fields), data_dir=URL)


def assert_complete(dataset):
    np.testing.assert_array_equal(dataset.train.images, IMAGES["train"])
    np.testing.assert_array_equal(dataset.evaluation.images, IMAGES["test"])


def test_a_set_is_copied_once(bucket, downloaded, capsys, tmp_path):
    assert_complete(load())
    copies = tmp_path / "local/isojax/buckets/memory%3A%2F%2Fbkt%2Fdata"
    assert (copies / "isojax/pets-4/train/images.bin").exists()
    assert sorted(downloaded) == sorted(bucket.find())
    assert capsys.readouterr().out.count("Copying isojax/pets-4/") == 2
    assert_complete(load())
    assert len(downloaded) == 6 and capsys.readouterr().out == ""


def test_an_interrupted_copy_continues_and_the_record_comes_last(
    bucket, downloaded, monkeypatch
):
    monkeypatch.setattr(bucket_copy, "_AT_ONCE", 1)
    read = Bucket.download

    def interrupted(self, batch, folder):
        if len(downloaded) == 2:
            raise KeyboardInterrupt
        read(self, batch, folder)

    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(Bucket, "download", interrupted)
        load()
    assert not any(name.endswith("meta.json") for name in downloaded)
    assert_complete(load())
    assert len(downloaded) == len(set(downloaded)) == 6


def test_processes_that_start_at_once_copy_once(bucket, downloaded, monkeypatch):
    waiting, read = threading.Event(), Bucket.download

    def after_another_waits(self, batch, folder):
        assert waiting.wait(10)
        read(self, batch, folder)

    monkeypatch.setattr(Bucket, "download", after_another_waits)
    monkeypatch.setattr(disk, "print_line", lambda text: waiting.set())
    with ThreadPoolExecutor(3) as pool:
        for dataset in pool.map(lambda _: load(), range(3)):
            assert_complete(dataset)
    assert len(downloaded) == 6


def test_a_damaged_copy_is_copied_again(bucket, downloaded, capsys, tmp_path):
    load()
    (path,) = tmp_path.glob("local/**/train/images.bin")
    flipped = bytearray(path.read_bytes())
    flipped[7] ^= 1
    path.write_bytes(flipped)
    assert_complete(load())
    assert len(downloaded) == 9 and "damaged" in capsys.readouterr().out


def test_damaged_images_in_the_bucket_are_refused(bucket):
    name = "isojax/pets-4/train/images.bin"
    bucket.write(name, bytes(len(bucket.read(name))))
    with pytest.raises(UsageError, match=f"^the images in {URL}/isojax/pets-4/train"):
        load()


def test_a_download_that_is_cut_is_refused(bucket, monkeypatch):
    read = Bucket.download

    def cut(self, batch, folder):
        read(self, batch, folder)
        (folder / batch[0]).write_bytes(b"")

    monkeypatch.setattr(Bucket, "download", cut)
    with pytest.raises(UsageError, match="arrived with 0 of 288 bytes"):
        load()


def test_a_set_that_the_bucket_lacks_is_named_with_its_folders(bucket):
    message = f"^--data_dir={URL} does not contain isojax/pets-8/train or pets; "
    with pytest.raises(UsageError, match=message):
        load_dataset(ImageSource("pets", 8), data_dir=URL)
    with pytest.raises(UsageError, match=f"^--data_dir={URL} does not contain pets; "):
        load(streaming=True)


def test_a_bucket_that_does_not_answer_is_named(bucket, monkeypatch):
    def fail(self, folder):
        raise OSError(5, "no access")

    monkeypatch.setattr(Bucket, "find", fail)
    with pytest.raises(UsageError, match=f"^--data_dir={URL} .*no access"):
        load()


def test_records_are_copied_and_decoded_locally(bucket, monkeypatch):
    bucket.write("cars/1.0.0/cars-train.tfrecord", b"records")
    seen = []

    def read(source, split, folder, data_dir):
        seen.append(data_dir)
        raise UsageError("stop")

    monkeypatch.setattr(sources, "_read_cached", read)
    with pytest.raises(UsageError, match="stop"):
        load_dataset(ImageSource("cars:1.0.0", 4), data_dir=URL)
    assert (seen[0] / "cars/1.0.0/cars-train.tfrecord").read_bytes() == b"records"


def test_a_folder_of_images_is_not_decoded_into_a_bucket(tmp_path):
    with pytest.raises(UsageError, match=f"^--data_dir={URL} cannot hold"):
        load(folder=str(tmp_path))
