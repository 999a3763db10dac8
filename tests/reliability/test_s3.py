"""A run in an S3 bucket of moto's server."""

import numpy as np
import pytest

moto = pytest.importorskip("moto.server")
pytest.importorskip("s3fs")

from isojax.data import cache, load_dataset  # noqa: E402
from isojax.data.sources import ImageSource  # noqa: E402
from isojax.errors import UsageError  # noqa: E402
from isojax.runs.bucket import Bucket  # noqa: E402
from isojax.runs.lease import Lease  # noqa: E402
from isojax.runs.mirror import local_folder  # noqa: E402
from isojax.training.checkpoint import Checkpoints  # noqa: E402

pytestmark = [
    pytest.mark.slow,
    pytest.mark.filterwarnings("ignore::ResourceWarning"),
    pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning"),
    pytest.mark.filterwarnings("ignore::DeprecationWarning"),
]
URL = "s3://bkt/runs/one"


@pytest.fixture(scope="module")
def server():
    running = moto.ThreadedMotoServer("127.0.0.1", port=0)
    running.start()
    host, port = running.get_host_and_port()
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("AWS_ENDPOINT_URL", f"http://{host}:{port}")
        patch.setenv("AWS_ACCESS_KEY_ID", "testing")
        patch.setenv("AWS_SECRET_ACCESS_KEY", "testing")
        patch.setenv("AWS_DEFAULT_REGION", "us-east-1")
        # Connections are kept, so one server serves all tests of this module.
        Bucket("s3://bkt")._files.mkdir("bkt")
        yield running
    running.stop()


@pytest.fixture(autouse=True)
def no_objects(server):
    yield
    bucket = Bucket("s3://bkt")
    bucket.delete(bucket.find())


def test_checkpoints_and_files_are_stored_and_read(server, make_state, same):
    with local_folder(URL, trains=True) as folder:
        with pytest.raises(UsageError, match=f"{URL} is in use by process"):
            Lease.take(Bucket(URL))
        (folder / "metrics.jsonl").write_text('{"epoch": 1}\n')
        with Checkpoints(folder) as checkpoints:
            checkpoints.check_writable(make_state(0))
            for step in (1, 2, 3):
                checkpoints.save(make_state(step))
                checkpoints.wait()
        assert checkpoints.steps() == [2, 3]
    assert not Bucket(URL).find("run.lock")
    with local_folder(URL) as folder:
        assert (folder / "metrics.jsonl").read_text() == '{"epoch": 1}\n'
        restored = Checkpoints(folder).restore(make_state(0))
    assert same(restored, make_state(3))


def test_a_damaged_checkpoint_is_set_aside(server, make_state, same, capsys):
    with local_folder(URL, trains=True) as folder:
        with Checkpoints(folder) as checkpoints:
            checkpoints.save(make_state(1))
            checkpoints.save(make_state(2))
        bucket = Bucket(URL)
        data = next(name for name in bucket.find("checkpoints/2") if "/d/" in name)
        bucket.write(data, bucket.read(data)[:-1])
        restored = Checkpoints(folder).restore(make_state(0), set_aside=True)
    assert same(restored, make_state(1))
    assert "set aside as 2.damaged" in capsys.readouterr().out


def test_a_missing_bucket_is_refused(server):
    url = "s3://other/run"
    with pytest.raises(UsageError, match=f"{url} cannot be written"):
        with local_folder(url, trains=True):
            pass


def test_an_existing_object_is_not_replaced(server):
    bucket = Bucket(URL)
    bucket.create("a", b"first")
    bucket.create("a", b"second")
    assert bucket.read("a") == b"first"


def test_a_prepared_data_set_is_copied_once(server, tmp_path, monkeypatch, capsys):
    monkeypatch.setenv("TFDS_DATA_DIR", str(tmp_path / "local"))
    images = np.random.default_rng(0).integers(0, 256, (6, 4, 4, 3), dtype=np.uint8)
    bucket = Bucket("s3://bkt/data")
    for split in ("train", "test"):
        cache.write_images(
            tmp_path / split,
            [(images, np.arange(6) % 2)],
            image_shape=(4, 4, 3),
            label_names=["cat", "dog"],
            splits=["train", "test"],
        )
        name = f"isojax/pets-4/{split}"
        bucket.upload({f"{name}/{p.name}": p for p in (tmp_path / split).iterdir()})
    for copies in (2, 0):
        dataset = load_dataset(ImageSource("pets", 4), data_dir=bucket.url)
        np.testing.assert_array_equal(dataset.train.images, images)
        output = capsys.readouterr().out
        assert output.count("Copying isojax/pets-4/") == copies
