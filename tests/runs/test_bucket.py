"""Objects in a bucket, and which paths are URLs."""

import sys
from pathlib import Path

import pytest

from isojax.errors import UsageError
from isojax.runs.bucket import Bucket, BucketError, is_url, write_output
from isojax.runs.mirror import local_folder


@pytest.mark.parametrize("path", ["runs/demo", "/runs/demo", "a:/b", "./gs:", "~/x"])
def test_local_paths_are_no_urls(path):
    assert not is_url(path)
    with local_folder(path) as folder:
        assert folder == Path(path)


def test_a_url_that_pathlib_has_changed_is_recognised():
    assert is_url(Path("gs://bucket/run"))
    assert Bucket(Path("memory://bkt/run/")).url == "memory://bkt/run"


@pytest.mark.parametrize("url", ["az://bucket/run", "https://host/run", "file:///run"])
def test_other_protocols_are_refused(url):
    with pytest.raises(UsageError, match="is not supported.*gs:// or s3://"):
        Bucket(url)


@pytest.mark.parametrize(
    ("url", "package"), [("gs://b/r", "gcsfs"), ("s3://b", "s3fs")]
)
def test_a_missing_package_is_named(url, package, monkeypatch):
    for name in ("aiohttp", "gcsfs", "gcsfs.core", "s3fs"):
        monkeypatch.setitem(sys.modules, name, None)
    with pytest.raises(UsageError, match=rf"{package}.*pip install isojax\[bucket\]"):
        Bucket(url)


def test_objects_are_written_found_copied_and_deleted(memory_bucket, tmp_path):
    (tmp_path / "file").write_bytes(b"123")
    memory_bucket.upload({"a/b": tmp_path / "file", "a/c/d": tmp_path / "file"})
    memory_bucket.write("e", b"4")
    memory_bucket.copy({"a/b": "f"})
    assert memory_bucket.find() == {"a/b": 3, "a/c/d": 3, "e": 1, "f": 3}
    assert memory_bucket.find("a") == {"a/b": 3, "a/c/d": 3}
    assert memory_bucket.list() == (["e", "f"], ["a"])
    assert memory_bucket.list("a") == (["a/b"], ["a/c"])
    assert memory_bucket.list("g") == ([], [])
    memory_bucket.download(["a/b", "f"], tmp_path / "down")
    assert (tmp_path / "down" / "a" / "b").read_bytes() == b"123"
    memory_bucket.delete(["a/b", "missing"])
    assert "a/b" not in memory_bucket.find()
    with pytest.raises(FileNotFoundError):
        memory_bucket.read("a/b")


def test_an_error_of_a_library_is_described_in_one_line(memory_bucket, monkeypatch):
    def fail(path):
        raise RuntimeError("401: expired\ndetails")

    monkeypatch.setattr(memory_bucket._files, "cat_file", fail)
    with pytest.raises(BucketError) as failed:
        memory_bucket.read("a")
    assert failed.value.strerror == "401: expired"


def test_a_file_is_written_to_a_url_or_a_path(memory_bucket, tmp_path):
    write_output(f"{memory_bucket.url}/page.html", b"page")
    assert memory_bucket.read("page.html") == b"page"
    write_output(tmp_path / "page.html", b"page")
    assert (tmp_path / "page.html").read_bytes() == b"page"
