"""Several processes that start at once on data which one of them prepares."""

import shutil
import subprocess
import sys
from contextlib import nullcontext
from urllib.parse import quote

import numpy as np
import pytest
from PIL import Image

pytest.importorskip("gcsfs")

from isojax.data import from_folder  # noqa: E402
from isojax.data.disk import preparation_lock  # noqa: E402
from isojax.runs.bucket import Bucket  # noqa: E402
from tests.reliability.gcs_server import GcsServer  # noqa: E402

pytestmark = [
    pytest.mark.slow,
    # The client's sockets are closed when the process ends.
    pytest.mark.filterwarnings("ignore::ResourceWarning"),
    pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning"),
]
PROCESSES = 4
SIDE, IMAGES = 64, 400
LOAD = """
import sys, zlib
import numpy as np
from isojax.data import load_dataset
from isojax.data.sources import ImageSource
name, folder, data_dir = sys.argv[1:]
print("ready", flush=True)
sys.stdin.readline()
dataset = load_dataset(ImageSource(name, 64, folder=folder), data_dir=data_dir)
print("checksum", zlib.crc32(np.ascontiguousarray(dataset.train.images).data))
"""


def load_at_once(name, folder, data_dir, *, locked=None):
    """Loads a set in several processes; gives the lines that each has printed.

    With `locked`, the folder is locked until all of them wait for it.
    """
    started = [
        subprocess.Popen(
            [sys.executable, "-c", LOAD, name, str(folder), str(data_dir)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        for _ in range(PROCESSES)
    ]
    for process in started:
        assert process.stdout.readline() == "ready\n"
    with preparation_lock(locked / ".lock") if locked else nullcontext():
        for process in started:
            process.stdin.write("\n")
            process.stdin.flush()
        if locked:
            for process in started:
                assert process.stdout.readline().startswith("Waiting for another ")
    printed = [process.communicate(timeout=300)[0].splitlines() for process in started]
    assert not any(process.returncode for process in started)
    assert len({lines[-1] for lines in printed}) == 1
    return [line for lines in printed for line in lines[:-1]]


@pytest.fixture
def photos(tmp_path):
    """A folder of two classes."""
    random = np.random.default_rng(0)
    for split, count in (("train", IMAGES), ("test", 20)):
        for number in range(count):
            pixels = random.integers(0, 256, (SIDE, SIDE, 3), dtype=np.uint8)
            path = tmp_path / "photos" / split / f"class{number % 2}" / f"{number}.png"
            path.parent.mkdir(parents=True, exist_ok=True)
            Image.fromarray(pixels).save(path)
    return tmp_path / "photos"


def test_one_process_decodes_a_folder_and_the_others_wait(photos, tmp_path):
    # The name of the folder contains a checksum of its path.
    from_folder(photos, resolution=SIDE, data_dir=tmp_path / "data")
    (folder,) = (tmp_path / "data").glob("isojax/folders/*")
    for split in folder.iterdir():
        shutil.rmtree(split) if split.is_dir() else split.unlink()
    lines = load_at_once("folder", photos, tmp_path / "data", locked=folder)
    lines = [line for line in lines if not line.startswith("Waiting for another ")]
    assert [line.partition(" of ")[0] for line in sorted(lines)] == [
        "Decoding test",
        "Decoding train",
    ]


def test_one_process_copies_a_set_from_a_bucket_and_the_others_wait(
    photos, tmp_path, monkeypatch
):
    from_folder(photos, resolution=SIDE, data_dir=tmp_path / "decoded")
    local = tmp_path / "local"
    monkeypatch.setenv("TFDS_DATA_DIR", str(local))
    with GcsServer().running():
        bucket = Bucket("gs://bkt/data")
        for split in ("train", "test"):
            (folder,) = (tmp_path / "decoded").glob(f"isojax/folders/*/{split}-*")
            names = {f"isojax/pets-64/{split}/{p.name}": p for p in folder.iterdir()}
            bucket.upload(names)
        copies = local / "isojax" / "buckets" / quote(bucket.url, safe="")
        copies.mkdir(parents=True)
        lines = load_at_once("pets", "", bucket.url, locked=copies)
        assert sum(line.startswith("Copying isojax/pets-64/") for line in lines) == 2
        assert load_at_once("pets", "", bucket.url) == []
    (copied,) = local.glob("isojax/buckets/*/isojax/pets-64/train/images.bin")
    (original,) = (tmp_path / "decoded").glob("isojax/folders/*/train-*/images.bin")
    assert copied.read_bytes() == original.read_bytes()
