import errno
import fcntl
import os
import re
import shutil
import stat
from pathlib import Path

import pytest

from isojax.data import disk
from isojax.errors import UsageError


def test_too_little_room_is_refused_beforehand(tmp_path, monkeypatch):
    monkeypatch.setattr(
        shutil, "disk_usage", lambda path: shutil._ntuple_diskusage(9e9, 7e9, 2e9)
    )
    disk.require_space(tmp_path, 1_999_999_999, purpose="preparing stl10")
    with pytest.raises(UsageError, match="stl10 .*3,000 MB.* 2,000 MB"):
        disk.require_space(tmp_path, 3_000_000_000, purpose="preparing stl10")


def test_a_folder_that_cannot_be_created_is_refused(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(UsageError, match="/file .*File exists.*--data_dir"):
        disk.make_folder(tmp_path / "file" / "folder", root=tmp_path)
    assert list(tmp_path.iterdir()) == [tmp_path / "file"]


def test_a_folder_without_permission_is_refused_with_its_owner(other_users):
    with other_users.folder(0o755) as folder:
        disk.require_writable(folder)
        with other_users.act():
            owner = re.escape(folder.owner())
            message = f"{folder} cannot be written .Permission .*ask {owner} for"
            with pytest.raises(UsageError, match=message):
                disk.require_writable(folder)
            message = f"{folder}/new cannot be written .Permission .*ask {owner} for"
            with pytest.raises(UsageError, match=message):
                disk.make_folder(folder / "new" / "x", root=folder)
        assert list(folder.iterdir()) == []


@pytest.mark.parametrize("mode", [0o700, 0o775, 0o2775, 0o1777])
def test_new_folders_have_the_permissions_of_the_shared_one(mode, tmp_path):
    tmp_path.chmod(mode)
    disk.make_folder(tmp_path / "a" / "b", root=tmp_path)
    for folder in (tmp_path / "a", tmp_path / "a" / "b"):
        assert stat.S_IMODE(folder.stat().st_mode) == mode
    (tmp_path / "a").chmod(0o750)
    disk.make_folder(tmp_path / "a" / "b", root=tmp_path)
    assert stat.S_IMODE((tmp_path / "a").stat().st_mode) == 0o750  # is left alone


def test_the_shared_folder_itself_does_not_inherit(tmp_path):
    tmp_path.chmod(0o777)
    disk.make_folder(tmp_path / "data" / "isojax", root=tmp_path / "data")
    assert not (tmp_path / "data").stat().st_mode & 0o002


def test_an_unknown_owner_has_a_number(tmp_path, monkeypatch):
    def unknown(path):
        raise KeyError("getpwuid(): uid not found")

    monkeypatch.setattr(Path, "owner", unknown)
    assert disk.owner_of(tmp_path) == f"user {os.geteuid()}"


@pytest.mark.parametrize(
    "full",
    [
        OSError(errno.ENOSPC, "No space left on device"),
        OSError(errno.EDQUOT, "Disk quota exceeded"),
        RuntimeError("RESOURCE_EXHAUSTED: file; No space left on device"),
    ],
)
def test_a_full_disk_is_found_in_the_causes_of_an_error(full, tmp_path):
    with pytest.raises(UsageError, match="decoding stopped because .* is full"):
        with disk.naming_full_disk(tmp_path, purpose="decoding"):
            try:
                raise full
            except Exception as error:
                raise ValueError("while extracting") from error


def test_other_errors_are_not_changed(tmp_path):
    with pytest.raises(KeyError):
        with disk.naming_full_disk(tmp_path, purpose="decoding"):
            raise KeyError("x")


def test_waiting_for_another_preparation_is_announced(tmp_path, monkeypatch, capsys):
    def busy_at_first(file, operation):
        if operation & fcntl.LOCK_NB:
            raise BlockingIOError

    monkeypatch.setattr(fcntl, "flock", busy_at_first)
    with disk.preparation_lock(tmp_path / "lock"):
        assert str(tmp_path) in capsys.readouterr().out


def test_images_are_not_prepared_without_locks(tmp_path, monkeypatch):
    def refuse(file, operation):
        raise OSError(errno.ENOLCK, "No locks available")

    monkeypatch.setattr(fcntl, "flock", refuse)
    with pytest.raises(UsageError, match=f"{tmp_path} .*No locks available"):
        with disk.preparation_lock(tmp_path / "lock"):
            pytest.fail("nothing was locked")
