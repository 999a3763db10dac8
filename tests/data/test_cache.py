import contextlib
import errno
import json
import os
import tempfile
import threading
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest

from isojax.data import cache, verified
from isojax.data.dataset import images_checksum
from isojax.data.disk import make_folder
from isojax.errors import UsageError
from tests.data.conftest import NOBODY

SHAPE = (7, 4, 4, 3)
IMAGES = np.random.default_rng(0).integers(0, 256, SHAPE, dtype=np.uint8)
LABELS = np.arange(7) - 1


def batches():
    yield IMAGES[:4], LABELS[:4]
    yield IMAGES[4:], LABELS[4:]


def write(folder, content=None):
    cache.write_images(
        folder,
        batches() if content is None else content,
        image_shape=SHAPE[1:],
        label_names=["a", "b"],
        splits=["train", "test"],
    )


@pytest.fixture
def folder(tmp_path):
    write(tmp_path / "set" / "train")
    return tmp_path / "set" / "train"


def test_what_was_written_comes_back_without_a_copy_in_memory(folder):
    found = cache.read_images(folder)
    np.testing.assert_array_equal(found.images, IMAGES)
    np.testing.assert_array_equal(found.labels, LABELS)
    assert (found.images.dtype, found.labels.dtype) == (np.uint8, np.int32)
    assert (found.label_names, found.splits) == (("a", "b"), ("train", "test"))
    assert not found.images.flags.writeable
    owner = found.images
    while isinstance(owner.base, np.ndarray):
        owner = owner.base
    assert isinstance(owner, np.memmap)


@pytest.mark.parametrize("file", ["images.bin", "labels.bin", "meta.json"])
def test_any_flipped_byte_is_found(folder, file):
    content = (folder / file).read_bytes()
    places = np.linspace(0, len(content) - 1, 25).astype(int)
    for place in places:
        flipped = bytearray(content)
        flipped[place] ^= 4
        (folder / file).write_bytes(flipped)
        try:
            found = cache.read_images(folder)
        except cache.DamagedCacheError:
            continue
        assert found is None, f"byte {place} of {file}"  # its version is another one


@pytest.mark.parametrize("file", ["images.bin", "labels.bin", "meta.json"])
def test_a_cut_file_is_found(folder, file):
    content = (folder / file).read_bytes()
    (folder / file).write_bytes(content[: len(content) // 2])
    with pytest.raises(cache.DamagedCacheError):
        cache.read_images(folder)


@pytest.fixture
def verifications(tmp_path, monkeypatch):
    """The folders whose checksums were verified, with no records at the start."""
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    found, checksum = [], cache._checksum

    def record(meta, *args):
        found.append(meta)
        return checksum(meta, *args)

    monkeypatch.setattr(cache, "_checksum", record)
    return found


def test_a_machine_verifies_a_cache_once(folder, verifications):
    for _ in range(3):
        np.testing.assert_array_equal(cache.read_images(folder).images, IMAGES)
    assert len(verifications) == 1
    os.utime(folder / "labels.bin")
    cache.read_images(folder)
    assert len(verifications) == 2


@pytest.mark.parametrize("is_replaced", [False, True])
def test_another_content_with_the_old_times_is_found(
    folder, verifications, is_replaced
):
    cache.read_images(folder)
    path = folder / "images.bin"
    status, content = path.stat(), bytearray(path.read_bytes())
    content[5] ^= 1
    if is_replaced:
        path.unlink()
    path.write_bytes(content)
    os.utime(path, ns=(status.st_atime_ns, status.st_mtime_ns))
    with pytest.raises(cache.DamagedCacheError):
        cache.read_images(folder)
    with pytest.raises(cache.DamagedCacheError):  # a failure is not recorded
        cache.read_images(folder)


def test_without_a_folder_for_records_each_process_verifies(
    folder, verifications, tmp_path
):
    records = tmp_path / f"isojax-verified-{os.geteuid()}"
    records.write_text("")
    for _ in range(2):
        cache.read_images(folder)
    assert len(verifications) == 2
    records.unlink()
    records.mkdir()
    records.chmod(0o777)  # others could write records
    cache.read_images(folder)
    assert len(verifications) == 3 and not list(records.iterdir())


def test_processes_that_start_at_once_verify_once(
    folder, verifications, monkeypatch, capsys
):
    checksum, waiting = cache._checksum, threading.Event()

    def after_the_others_wait(*args):
        assert waiting.wait(10)
        return checksum(*args)

    monkeypatch.setattr(cache, "_checksum", after_the_others_wait)
    monkeypatch.setattr(verified, "print_line", lambda text: waiting.set())
    with ThreadPoolExecutor(3) as pool:
        found = list(pool.map(cache.read_images, [folder] * 3))
    assert len(verifications) == 1
    for each in found:
        np.testing.assert_array_equal(each.images, IMAGES)


def test_a_machine_computes_the_checksum_of_mapped_images_once(
    folder, verifications, tmp_path
):
    images, parts = cache.read_images(folder).images, (slice(1, None), slice(None, -1))
    checksum = images_checksum(images)
    assert checksum == images_checksum(IMAGES)
    (record,) = (
        path
        for path in tmp_path.glob("isojax-verified-*/*")
        if path.read_text().endswith(checksum)
    )
    record.write_text(record.read_text().replace(checksum, "stored"))
    assert images_checksum(images) == "stored"
    for part in (*parts, slice(None, None, -1)):
        assert images_checksum(images[part]) == images_checksum(IMAGES[part])
    os.utime(folder / "images.bin")
    assert images_checksum(images) == checksum


def test_only_whole_files_that_are_mapped_read_only_have_a_path(folder):
    images = cache.read_images(folder).images
    assert cache.mapped_file(images) == folder / "images.bin"
    for other in (images[1:], images[:-1], images[::-1], IMAGES):
        assert cache.mapped_file(other) is None
    writeable = np.memmap(folder / "images.bin", np.uint8, mode="r+")
    assert cache.mapped_file(writeable) is None


def test_an_unfinished_or_older_cache_is_not_read(folder, tmp_path):
    assert cache.read_images(tmp_path / "nothing") is None
    meta = json.loads((folder / "meta.json").read_text())
    (folder / "meta.json").write_text(json.dumps(meta | {"version": 0}))
    assert cache.read_images(folder) is None
    (folder / "meta.json").unlink()
    assert cache.read_images(folder) is None


def test_nothing_is_left_of_a_cache_whose_writing_stopped(folder):
    def stopping():
        yield IMAGES[:4], LABELS[:4]
        raise OSError(errno.ENOSPC, "No space left on device")

    with pytest.raises(OSError, match="No space left"):
        write(folder, stopping())
    assert not folder.exists()
    assert list(folder.parent.iterdir()) == []


def test_a_missing_split_needs_no_removal(tmp_path):
    cache.remove_images(tmp_path / "nothing")


def test_a_split_is_removed_and_written_again(folder):
    cache.remove_images(folder)
    assert not folder.exists()
    write(folder)
    np.testing.assert_array_equal(cache.read_images(folder).images, IMAGES)


@pytest.fixture
def shared(other_users):
    """`shared(mode)` gives root's split in a folder with these permissions."""
    with contextlib.ExitStack() as stack:

        def make(mode):
            root = stack.enter_context(other_users.folder(mode))
            make_folder(root / "isojax" / "set-4", root=root)
            write(root / "isojax" / "set-4" / "train")
            return root / "isojax" / "set-4" / "train"

        yield make


def test_a_split_in_a_shared_folder_is_replaced_by_another_user(shared, other_users):
    folder = shared(0o777)
    (folder / "images.bin").write_bytes(b"")
    with other_users.act():
        with pytest.raises(cache.DamagedCacheError):
            cache.read_images(folder)
        cache.remove_images(folder)
        write(folder)
        np.testing.assert_array_equal(cache.read_images(folder).images, IMAGES)
    assert folder.stat().st_uid == NOBODY


@pytest.mark.parametrize("mode", [0o755, 0o1777])
def test_another_users_split_that_must_stay_is_named_with_its_owner(
    mode, shared, other_users
):
    folder = shared(mode)
    with other_users.act():
        message = f"in {folder} are incomplete.*Ask root to delete .* --data_dir"
        with pytest.raises(UsageError, match=message):
            cache.remove_images(folder)


@pytest.mark.parametrize("name", ["train", "train/meta.json", "train/images.bin"])
def test_a_split_that_may_not_be_read_is_named_with_its_owner(
    name, shared, other_users
):
    folder = shared(0o755)
    (folder.parent / name).chmod(0o600)
    with other_users.act():
        message = f"cannot be read .Permission.*Ask .* to make {folder} readable"
        with pytest.raises(UsageError, match=message):
            cache.read_images(folder)
