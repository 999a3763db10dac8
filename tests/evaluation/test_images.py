import numpy as np
import pytest
from PIL import Image

from isojax.configs import base, digits
from isojax.errors import UsageError
from isojax.evaluation import images
from isojax.training.run_data import load_run_data


def digits_data(**fields):
    data = digits.get_config().data.copy_and_resolve_references()
    data.update(fields)
    return data


def test_other_images_keep_the_encoders_normalisation():
    data = base.get_config().data
    changes = {"name": "mnist", "train_split": "train[:9]"}
    other = images.evaluation_data(data, changes)
    assert (other.name, other.train_split) == ("mnist", "train[:9]")
    assert other.pretrain_split == "train[:9]"
    assert (other.mean, other.std) == (data.mean, data.std)


@pytest.mark.parametrize(
    ("run", "changes", "num_test", "num_pretrained"),
    [
        ({}, {}, 1000, 0),
        ({"pretrain_split": "test"}, {}, 1000, 1000),
        ({}, {"train_split": "test", "evaluation_split": "train"}, 4000, 4000),
        # The held-out part of the training images, seen by one run and not by another.
        ({}, {"validation_fraction": 0.2}, 800, 800),
        ({"validation_fraction": 0.2}, {}, 800, 0),
        ({"validation_fraction": 0.2}, {"validation_fraction": 0.4}, 1600, 800),
    ],
)
def test_pretrained_test_images_are_counted(run, changes, num_test, num_pretrained):
    dataset, found = images.load_images(digits_data(**run), changes)
    assert len(dataset.evaluation.labels) == num_test
    assert found == num_pretrained


def test_images_of_other_channels_are_refused():
    with pytest.raises(UsageError, match=r"\b1 channels.*\b3\b"):
        images.load_images(digits_data(mean=(0.5,) * 3, std=(0.5,) * 3), {})


def test_a_folder_that_changed_since_pretraining_is_reported(tmp_path, capsys):
    rng = np.random.default_rng(0)

    def save(name):
        path = tmp_path / "pets" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        pixels = rng.integers(0, 256, (8, 8), dtype=np.uint8)
        Image.fromarray(pixels).save(path)

    for name in ("train/a/0", "train/b/0", "test/a/0", "test/b/0"):
        save(f"{name}.png")
    config = digits.get_config().copy_and_resolve_references().unlock()
    config.data.update(folder=str(tmp_path / "pets"), resolution=8)
    config = load_run_data(config, None, data_dir=tmp_path / "data")[1]
    config.data.update(mean=(0.5,), std=(0.5,))
    for warns in (False, True):
        images.load_images(config.data, {}, data_dir=tmp_path / "data")
        assert ("changed since pretraining" in capsys.readouterr().out) == warns
        save("train/a/1.png")
