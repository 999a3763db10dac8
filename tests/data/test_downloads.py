import errno
import fcntl
import functools
import gzip
import hashlib
import http.server
import re
import threading

import pytest

pytest.importorskip("tensorflow")

import tensorflow_datasets as tfds
from tensorflow_datasets.core.download import checksums, downloader, extractor
from tensorflow_datasets.image_classification import mnist as mnist_builders

from isojax.data import ImageSource, archives, downloads, load_dataset
from isojax.errors import UsageError
from tests.data import miniatures

CLOSED = "http://127.0.0.1:9"
LOCKS = {".cifar10.lock", ".downloads.lock"}


@pytest.fixture
def server():
    """Answers every request with 403."""

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_HEAD(self):
            self.send_response(403)
            self.end_headers()

        do_GET = do_HEAD  # noqa: N815

        def log_message(self, *args):
            pass

    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler) as running:
        thread = threading.Thread(target=running.serve_forever)
        thread.start()
        yield f"http://127.0.0.1:{running.server_port}"
        running.shutdown()
        thread.join()


@pytest.fixture
def no_network(monkeypatch):
    for variable in ("http_proxy", "https_proxy"):
        monkeypatch.setenv(variable, CLOSED)
    for variable in ("no_proxy", "HTTP_PROXY", "HTTPS_PROXY", "NO_PROXY"):
        monkeypatch.delenv(variable, raising=False)


@pytest.fixture
def load(tmp_path):
    """`load(name)` loads the data set of that name from an empty folder."""

    def load(name="cifar10"):
        return load_dataset(ImageSource(name, 32), data_dir=tmp_path)

    return load


@pytest.fixture
def miniature(no_network, tmp_path):
    """The archive of CIFAR-10's miniature, placed by hand, its checksum known."""
    with miniatures.known(["cifar10"], tmp_path):
        yield tmp_path / "downloads" / "manual" / "cifar-10-binary.tar.gz"


def files(folder):
    return {path for path in folder.rglob("*") if path.is_file()}


def test_a_host_answers_with_any_status(server):
    assert downloads.host_answers(server)
    assert not downloads.host_answers(CLOSED)


@pytest.mark.parametrize(
    ("name", "parts"),
    [
        (
            "cifar10",
            [
                "www.cs.toronto.edu does not answer",
                "https://www.cs.toronto.edu/~kriz/cifar-10-binary.tar.gz",
                "downloads/manual/cifar10/cifar-10-binary.tar.gz (170,052,171 bytes",
                "c4a38c50a1bc5f3a1c5537f2155ab9d68f9f25eb1ed8d9ddda3db29a59bca1dd",
            ],
        ),
        (
            "tiny_imagenet",
            [
                "cs231n.stanford.edu does not answer",
                "manual/tiny_imagenet/tiny-imagenet-200.zip (248,100,043 bytes",
                "6198c8ae015e2b3e007c7841da39ec069199b9aa3bfa943a462022fe5e43c821",
            ],
        ),
        (
            "oxford_iiit_pet",
            [f"manual/oxford_iiit_pet/{n}.tar.gz" for n in ("annotations", "images")],
        ),
        ("plantae_k", ["apple_d001.JPG", "more files in the same way"]),
    ],
)
def test_without_a_network_the_files_to_place_are_named(name, parts, no_network, load):
    with pytest.raises(UsageError) as error:
        load(name)
    for part in parts:
        assert part in str(error.value)
    assert "\n" not in str(error.value)


def test_a_set_that_must_be_requested_from_its_owner_is_named(load):
    with pytest.raises(UsageError, match="resisc45 .* manually to .*: "):
        load("resisc45")


def test_a_refused_download_is_reported_with_its_reason(
    server, load, monkeypatch, tmp_path
):
    monkeypatch.setattr(downloads, "host_answers", lambda url: True)
    open_url = downloader._open_url
    monkeypatch.setattr(
        downloader, "_open_url", lambda url, **kwargs: open_url(server, **kwargs)
    )
    with pytest.raises(UsageError, match="HTTP code: 403"):
        load()
    assert {path.name for path in files(tmp_path)} == LOCKS


def test_a_cut_archive_is_named_with_both_checksums(miniature, load):
    whole = miniature.read_bytes()
    miniature.write_bytes(whole[:1000])
    with pytest.raises(UsageError) as error:
        load()
    message = str(error.value)
    assert f"{miniature} is incomplete or not the right file: it has 1,000" in message
    assert f"{len(whole):,} bytes" in message
    assert len(set(re.findall("[0-9a-f]{64}", message))) == 2
    miniature.write_bytes(whole)
    assert len(load().train.labels) == miniatures.TRAIN["cifar10"]


def idx_gz(images=None, labels=None):
    """An archive of images or labels in MNIST's format."""
    header = 16 if labels is None else 8
    return gzip.compress(bytes(header) + (images if labels is None else labels))


@pytest.fixture
def mnists(no_network, monkeypatch):
    """Archives of mnist and fashion_mnist, which have the same file names.

    A mapping from the data set to one from the file name to its content. All pixels and
    labels of mnist are 1, those of fashion_mnist 2.
    """
    monkeypatch.setattr(mnist_builders, "_TRAIN_EXAMPLES", 6)
    monkeypatch.setattr(mnist_builders, "_TEST_EXAMPLES", 2)
    contents = {}
    for value, name in enumerate(("mnist", "fashion_mnist"), start=1):
        infos, contents[name] = tfds.builder_cls(name).url_infos, {}
        for url, info in list(infos.items()):
            count = 6 if "train" in info.filename else 2
            kind, size = ("images", 784) if "images" in info.filename else ("labels", 1)
            content = idx_gz(**{kind: bytes([value]) * (count * size)})
            contents[name][info.filename] = content
            digest = hashlib.sha256(content).hexdigest()
            known = checksums.UrlInfo(len(content), digest, info.filename)
            monkeypatch.setitem(infos, url, known)
    return contents


@pytest.mark.parametrize(
    "folders", [("", "mnist"), ("fashion_mnist", ""), ("fashion_mnist", "mnist")]
)
def test_archives_of_the_same_name_are_distinguished_by_checksum(
    folders, mnists, tmp_path, monkeypatch
):
    monkeypatch.setattr(archives, "_data_set_of", lambda found: "another set")
    names = ("fashion_mnist", "mnist")
    for name, folder in zip(names, folders, strict=True):
        place = tmp_path / "downloads" / "manual" / folder
        place.mkdir(parents=True, exist_ok=True)
        for file, content in mnists[name].items():
            (place / file).write_bytes(content)
    for name in names:
        data = ImageSource(name, 28)
        dataset = load_dataset(data, data_dir=tmp_path)
        value = 1 if name == "mnist" else 2
        for split, count in ((dataset.train, 6), (dataset.evaluation, 2)):
            assert split.images.shape == (count, 28, 28, 1)
            assert (split.images == value).all()
            assert (split.labels == value).all()


@pytest.mark.parametrize("damage", ["none", "another content", "cut", "no gzip"])
def test_an_archive_compressed_again_is_used_if_its_content_is_right(
    damage, mnists, tmp_path, monkeypatch
):
    manual = tmp_path / "downloads" / "manual" / "fashion_mnist"
    manual.mkdir(parents=True)
    contents = {}
    for file, archive in mnists["fashion_mnist"].items():
        content = gzip.decompress(archive)
        known = hashlib.sha256(archive).hexdigest()
        contents[known] = hashlib.sha256(content).hexdigest()
        (manual / file).write_bytes(gzip.compress(content, compresslevel=1, mtime=7))
    monkeypatch.setattr(archives, "_CONTENTS", contents)
    changed = manual / "t10k-labels-idx1-ubyte.gz"
    whole = changed.read_bytes()
    changed.write_bytes(
        {
            "none": whole,
            "another content": gzip.compress(b"x"),
            "cut": whole[:-9],
            "no gzip": b"x",
        }[damage]
    )
    source = ImageSource("fashion_mnist", 28)
    if damage == "none":
        dataset = load_dataset(source, data_dir=tmp_path)
        assert (dataset.train.images == 2).all()
        assert (dataset.evaluation.labels == 2).all()
    else:
        with pytest.raises(UsageError) as error:
            load_dataset(source, data_dir=tmp_path)
        assert str(error.value).startswith(f"{changed} is incomplete or not the right")


def test_an_archive_of_another_set_is_named_with_the_place_for_this_one(
    no_network, load, tmp_path, monkeypatch
):
    name = "train-images-idx3-ubyte.gz"
    (fashion,) = (
        info
        for info in tfds.builder_cls("fashion_mnist").url_infos.values()
        if info.filename == name
    )
    manual = tmp_path / "downloads" / "manual"
    manual.mkdir(parents=True)
    (manual / name).write_bytes(b"")
    monkeypatch.setattr(checksums, "compute_url_info", lambda path: fashion)
    with pytest.raises(UsageError) as error:
        load("mnist")
    assert f"{manual}/mnist/{name} (9,912,422 bytes" in str(error.value)
    assert str(error.value).endswith(f" ({manual}/{name} belongs to fashion_mnist)")


def test_an_archive_replaced_by_another_sets_is_extracted_again(
    mnists, tmp_path, monkeypatch
):
    manual = tmp_path / "downloads" / "manual"
    manual.mkdir(parents=True)
    for name, value in (("fashion_mnist", 2), ("mnist", 1)):
        for file, content in mnists[name].items():
            (manual / file).write_bytes(content)
        dataset = load_dataset(ImageSource(name, 28), data_dir=tmp_path)
        assert (dataset.train.images == value).all()


def test_a_disk_that_fills_up_while_extracting_leaves_nothing(
    miniature, load, monkeypatch, tmp_path
):
    copy, calls = extractor._copy, []

    def copy_until_full(content, path):
        calls.append(path)
        if len(calls) == 3:
            raise OSError(errno.ENOSPC, "No space left on device")
        copy(content, path)

    monkeypatch.setattr(extractor, "_copy", copy_until_full)
    with pytest.raises(UsageError, match="preparing cifar10 .* full"):
        load()
    assert len(calls) >= 3
    locks = {tmp_path / "isojax" / name for name in LOCKS}
    assert files(tmp_path) == {miniature, *locks}


def test_two_sets_are_not_prepared_at_the_same_time(miniature, load, monkeypatch):
    held = miniature.parents[2] / "isojax" / ".downloads.lock"
    unfinished, refused = downloads._unfinished, []

    def try_lock(folder):
        with open(held) as other, pytest.raises(BlockingIOError):
            fcntl.flock(other, fcntl.LOCK_EX | fcntl.LOCK_NB)
        refused.append(held)
        return unfinished(folder)

    monkeypatch.setattr(downloads, "_unfinished", try_lock)
    load()
    assert len(refused) == 2  # before and after
    with open(held) as other:
        fcntl.flock(other, fcntl.LOCK_EX | fcntl.LOCK_NB)


@pytest.mark.parametrize(
    ("free", "purpose"),
    [(100, "preparing cifar10"), (9.5e5, "decoding train of cifar10")],
)
def test_free_space_is_checked_before_each_part(
    free, purpose, miniature, load, monkeypatch
):
    usage = functools.partial(downloads.shutil._ntuple_diskusage, 9e9, 0)
    monkeypatch.setattr(downloads.shutil, "disk_usage", lambda path: usage(free))
    with pytest.raises(UsageError, match=f"{purpose} takes about"):
        load()
