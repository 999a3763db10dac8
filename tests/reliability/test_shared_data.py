"""Several processes that start at once on data which one of them prepares."""

import subprocess
import sys

import numpy as np
import pytest
from PIL import Image

pytest.importorskip("gcsfs")

from isojax.data import from_folder  # noqa: E402
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


def load_at_once(name, folder, data_dir):
    """Loads a set in several processes; gives the lines that each has printed."""
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
    for process in started:
        process.stdin.write("\n")
        process.stdin.flush()
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
    lines = load_at_once("folder", photos, tmp_path / "data")
    assert sum(line.startswith("Decoding train of ") for line in lines) == 1
    assert sum(line.startswith("Decoding test of ") for line in lines) == 1
    waiting = [line for line in lines if line.startswith("Waiting for another ")]
    assert waiting and len(lines) == 2 + len(waiting)


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
        lines = load_at_once("pets", "", bucket.url)
        assert sum(line.startswith("Copying isojax/pets-64/") for line in lines) == 2
        assert any(line.startswith("Waiting for another ") for line in lines)
        assert load_at_once("pets", "", bucket.url) == []
    (copied,) = local.glob("isojax/buckets/*/isojax/pets-64/train/images.bin")
    (original,) = (tmp_path / "decoded").glob("isojax/folders/*/train-*/images.bin")
    assert copied.read_bytes() == original.read_bytes()
