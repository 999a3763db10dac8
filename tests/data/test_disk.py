import errno
import shutil

import pytest

from isojax.data import disk
from isojax.errors import UsageError


def test_too_little_room_is_refused_beforehand(tmp_path, monkeypatch):
    monkeypatch.setattr(
        shutil, "disk_usage", lambda path: shutil._ntuple_diskusage(9e9, 7e9, 2e9)
    )
    disk.require_space(tmp_path, 1_999_999_999, purpose="preparing stl10")
    with pytest.raises(UsageError, match="stl10 takes about 3,000 MB and 2,000 MB are"):
        disk.require_space(tmp_path, 3_000_000_000, purpose="preparing stl10")


def test_a_folder_that_cannot_be_written_is_refused(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(UsageError, match="cannot be written .* name another folder"):
        disk.require_writable(tmp_path / "file" / "folder")
    disk.require_writable(tmp_path / "new" / "folder")
    assert list((tmp_path / "new" / "folder").iterdir()) == []


@pytest.mark.parametrize(
    "full",
    [
        OSError(errno.ENOSPC, "No space left on device"),
        OSError(errno.EDQUOT, "Disk quota exceeded"),
        RuntimeError("RESOURCE_EXHAUSTED: file; No space left on device"),
    ],
)
def test_a_full_disk_is_named_however_deep_it_was_met(full, tmp_path):
    with pytest.raises(UsageError, match="is full, so that decoding stopped"):
        with disk.naming_full_disk(tmp_path, purpose="decoding"):
            try:
                raise full
            except Exception as error:
                raise ValueError("while extracting") from error


def test_other_errors_pass(tmp_path):
    with pytest.raises(KeyError):
        with disk.naming_full_disk(tmp_path, purpose="decoding"):
            raise KeyError("x")
