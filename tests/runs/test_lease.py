"""The lease of a run in a bucket."""

import json
import os
import socket
import subprocess
import sys
from datetime import timedelta

import pytest

from isojax.errors import UsageError
from isojax.runs import lease
from isojax.runs.bucket import Bucket
from isojax.runs.lease import Lease, hold_lease


@pytest.fixture
def bucket(memory_bucket):
    return memory_bucket


def leave(bucket, age=0, **owner):
    """Writes the object of an owner, whose server's clock shows `age` seconds ago."""
    bucket.write("run.lock/000007", json.dumps(owner).encode())
    (file,) = bucket._files.store.values()
    file.modified -= timedelta(seconds=age)


def test_a_lease_is_held_once_and_free_afterwards(bucket):
    owner = f"in use by process {os.getpid()} on {socket.gethostname()} since 20"
    for _ in range(2):
        with hold_lease(bucket):
            with pytest.raises(UsageError, match=owner):
                Lease.take(bucket)
        assert not bucket.find()


def test_the_lease_of_a_live_owner_elsewhere_is_refused_until_it_is_stale(bucket):
    elsewhere = {"process": 1, "host": "b", "machine": "other", "since": "2026"}
    leave(bucket, age=80, **elsewhere)
    with pytest.raises(UsageError, match="in use by process 1 on b since 2026"):
        Lease.take(bucket)
    leave(bucket, age=100, **elsewhere)
    with hold_lease(bucket):
        assert list(bucket.find()) == ["run.lock/000008"]


def test_the_lease_of_a_dead_process_of_this_machine_is_taken_at_once(bucket):
    process = subprocess.Popen([sys.executable, "-c", ""])
    process.wait()
    leave(bucket, process=process.pid, machine=lease._machine())
    with hold_lease(bucket):
        assert list(bucket.find()) == ["run.lock/000008"]


@pytest.mark.parametrize("content", [b"", b"{", b"[]", b'{"process": "x"}'])
def test_a_damaged_lease_becomes_stale_like_any_other(bucket, content):
    bucket.write("run.lock/000001", content)
    with pytest.raises(UsageError, match="in use by process"):
        Lease.take(bucket)
    (file,) = bucket._files.store.values()
    file.modified -= timedelta(seconds=100)
    with hold_lease(bucket):
        assert list(bucket.find()) == ["run.lock/000002"]


def test_one_of_two_that_start_at_once_wins(bucket, monkeypatch):
    create = Bucket.create

    def after_another(self, name, content):
        create(self, name, b'{"process": 5}')  # the other one was faster
        create(self, name, content)

    monkeypatch.setattr(Bucket, "create", after_another)
    with pytest.raises(UsageError, match="in use by process 5"):
        Lease.take(bucket)


def test_a_request_repeated_after_its_answer_was_lost_takes_the_lease(
    bucket, monkeypatch
):
    create = Bucket.create
    monkeypatch.setattr(Bucket, "create", lambda *args: (create(*args), create(*args)))
    with hold_lease(bucket) as held:
        held.check()


def test_an_owner_is_renewed_and_notices_that_it_was_taken_over(bucket, monkeypatch):
    monkeypatch.setattr(lease, "RENEWED_SECONDS", 0.01)
    with hold_lease(bucket) as held:
        before = bucket.modified("run.lock/000001")
        while bucket.modified("run.lock/000001") == before:
            pass
        lost = lease.threading.Event()
        held.on_loss(lost.set)
        bucket.create("run.lock/000002", b"{}")
        assert lost.wait(10)
        with pytest.raises(UsageError, match="small was taken over"):
            held.check()
    assert list(bucket.find()) == ["run.lock/000002"]


def test_an_owner_that_cannot_reach_the_bucket_renews_later(bucket, monkeypatch):
    monkeypatch.setattr(lease, "RENEWED_SECONDS", 0.01)
    write, failures = Bucket.write, []

    def fail_twice(self, name, content):
        if len(failures) < 2:
            failures.append(name)
            raise OSError("unreachable")
        write(self, name, content)

    with hold_lease(bucket) as held:
        monkeypatch.setattr(Bucket, "write", fail_twice)
        before = bucket.modified("run.lock/000001")
        while bucket.modified("run.lock/000001") == before:
            pass
        held.check()
    assert failures == ["run.lock/000001"] * 2
