import errno
import fcntl
import os
import threading

import pytest

from isojax.files import LockingUnsupportedError, hold_lock


def assert_held(lock):
    with open(lock) as other, pytest.raises(BlockingIOError):
        fcntl.flock(other, fcntl.LOCK_EX | fcntl.LOCK_NB)


def test_a_lock_is_held_until_the_context_ends(tmp_path):
    lock = tmp_path / "lock"
    with hold_lock(lock, required=True):
        assert_held(lock)
    with hold_lock(lock, required=True, on_wait=lambda: pytest.fail("it was free")):
        assert_held(lock)


def test_a_second_holder_waits_for_the_first(tmp_path):
    lock, waiting, order = tmp_path / "lock", threading.Event(), []

    def hold_second():
        with hold_lock(lock, required=True, on_wait=waiting.set):
            order.append("second")

    second = threading.Thread(target=hold_second)
    with hold_lock(lock, required=True):
        second.start()
        assert waiting.wait(timeout=10)
        order.append("first")
    second.join(timeout=10)
    assert order == ["first", "second"]


def test_another_users_lock_is_held_without_writing_to_it(tmp_path, monkeypatch):
    lock = tmp_path / "lock"
    lock.touch(mode=0o444)
    open_file, modes = os.open, []

    def open_as_another(path, flags, *mode):
        modes.append(flags & os.O_ACCMODE)
        if modes[-1] != os.O_RDONLY:
            raise PermissionError(errno.EACCES, "Permission denied")
        return open_file(path, flags, *mode)

    monkeypatch.setattr(os, "open", open_as_another)
    with hold_lock(lock, required=True):
        assert_held(lock)
    assert modes == [os.O_RDWR, os.O_RDONLY]


def test_a_lock_that_cannot_be_created_keeps_the_reason(tmp_path, monkeypatch):
    def refuse(path, flags, *mode):
        raise PermissionError(errno.EACCES, "Permission denied", path)

    monkeypatch.setattr(os, "open", refuse)
    with pytest.raises(PermissionError), hold_lock(tmp_path / "lock", required=False):
        pass


@pytest.mark.parametrize("required", [True, False])
def test_a_file_system_without_locks(required, tmp_path, monkeypatch):
    def refuse(file, operation):
        raise OSError(errno.ENOLCK, "No locks available")

    monkeypatch.setattr(fcntl, "flock", refuse)
    if required:
        with pytest.raises(LockingUnsupportedError) as caught:
            with hold_lock(tmp_path / "lock", required=True):
                pytest.fail("nothing was locked")
        assert caught.value.strerror == "No locks available"
    else:
        entered = False
        with hold_lock(tmp_path / "lock", required=False):
            entered = True
        assert entered


def test_errors_of_the_body_pass_unchanged(tmp_path):
    error = OSError(errno.ENOLCK, "of the body")
    with pytest.raises(OSError) as caught, hold_lock(tmp_path / "lock", required=True):
        raise error
    assert caught.value is error
