"""Runs on image files that are decoded while training."""

import json

import jax
import numpy as np
import pytest
from ml_collections import ConfigDict

from isojax.configs import cifar10, digits
from isojax.data import from_arrays, load_dataset
from isojax.data.augment.simclr import simclr_views
from isojax.errors import UsageError
from isojax.evaluation import evaluate_run
from isojax.stopping import StopRequest
from isojax.training import epochs, load_encoder, pretrain
from isojax.training.config import check_config
from isojax.training.run_data import load_run_data
from isojax.training.settings import crop_pair, image_source, view_pair
from isojax.training.step import make_views
from isojax.training.streamed_feed import StreamedFeed
from isojax.training.synthetic_step import SyntheticStep
from tests.data.image_files import write_images
from tests.data.photo_net import CLASSES, prepare
from tests.training.small_run import using_tiny_network

SIDE = 12


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("images")
    write_images(folder, per_class=10)
    return write_images(folder, per_class=4, split="test", seed=1)


@pytest.fixture
def config(folder):
    config = ConfigDict(cifar10.get_config("isoloss_noema").to_dict())
    config.update(epochs=2, batch_size=4, checkpoint_every_epochs=1)
    config.optimizer.warmup_epochs = 0.0
    config.data.update(
        name="folder", folder=str(folder), streaming=True, resolution=SIDE
    )
    config.data.evaluation_split = "test"
    # Operations that take long to compile.
    config.augment.update(jitter_probability=0.0, grayscale_probability=0.0)
    return config


@pytest.fixture(autouse=True)
def small_network():
    with using_tiny_network():
        yield


def make_feed(config):
    split = load_dataset(image_source(config.data)).pretrain
    return StreamedFeed(
        split.images,
        split.labels,
        crops=crop_pair(config),
        batch_size=config.batch_size,
        seed=config.seed,
    )


@pytest.mark.long
def test_the_devices_make_the_views_of_the_crops(config):
    views = view_pair(config)
    batch = next(make_feed(config).epoch(0))
    batch = {name: rows.reshape(-1, *rows.shape[2:]) for name, rows in batch.items()}
    key = jax.random.key(0)
    made = make_views(key, batch, views=views)
    for number, (view, settings) in enumerate(
        zip(made, (views.first, views.second), strict=True)
    ):
        keys = [
            jax.random.split(jax.random.fold_in(key, index))[number]
            for index in batch["indices"]
        ]
        crops = batch["crops"][:, number]
        expected = simclr_views(jax.numpy.stack(keys), crops, config=settings.config)
        mean, std = np.array(views.mean), np.array(views.std)
        np.testing.assert_allclose(np.asarray(view) * std + mean, expected, atol=1e-5)


def test_views_without_further_operations_are_the_crops(config):
    config.augment.flip_probability = 0.0
    config.data.update(mean=(0.0,) * 3, std=(1.0,) * 3)
    feed = make_feed(config)
    batch = feed.examples(np.arange(4), epoch=1)
    views = make_views(jax.random.key(0), batch, views=view_pair(config))
    np.testing.assert_allclose(np.stack(views, axis=1), batch["crops"] / 255, atol=1e-6)


@pytest.mark.long
def test_a_run_stopped_amid_an_epoch_ends_like_the_whole(config, tmp_path, monkeypatch):
    whole = pretrain(config, tmp_path / "whole")
    assert (whole / "figures" / "views.png").exists()
    stop, finish_step = StopRequest(), epochs.finish_step

    def stop_early(context, result, step, bar):
        return finish_step(context, result, step, bar) or step == 7  # of 5 an epoch

    with monkeypatch.context() as patch:
        patch.setattr(epochs, "finish_step", stop_early)
        stopped = pretrain(config, tmp_path / "stopped", stop=stop)
    assert stop.has_stopped_run and load_encoder(stopped, step=8)
    pretrain(config, stopped)
    expected, resumed = load_encoder(whole)[1], load_encoder(stopped)[1]
    jax.tree.map(np.testing.assert_array_equal, resumed, expected)
    with (
        np.load(stopped / "spectrum.npz") as found,
        np.load(whole / "spectrum.npz") as spectrum,
    ):
        np.testing.assert_array_equal(found["eigenvalues"], spectrum["eigenvalues"])


@pytest.mark.slow
def test_a_streamed_run_is_evaluated_on_its_files(config, tmp_path):
    config.epochs = 1
    result = evaluate_run(pretrain(config, tmp_path / "run"))
    assert (result["num_train"], result["num_test"]) == (20, 8)
    assert 0 <= result["raw_pixel_accuracy"] <= 1
    assert "num_test_pretrained" not in result


def test_a_part_is_held_out_of_the_files(config):
    config.data.validation_fraction = 0.2
    dataset, _ = load_run_data(config, None)
    names = [set(split.images.names()) for split in (dataset.train, dataset.evaluation)]
    assert [len(part) for part in names] == [16, 4] and not names[0] & names[1]
    assert dataset.pretrain is dataset.train


def test_files_without_labels_are_streamed(config, tmp_path):
    write_images(tmp_path, per_class=6, classes=("",))
    config.data.folder = str(tmp_path)
    dataset, _ = load_run_data(config, None)
    assert dataset.num_classes == 0 and len(dataset.pretrain.labels) == 6
    assert not len(dataset.train.labels) and not len(dataset.evaluation.labels)


@pytest.mark.long
def test_a_prepared_set_trains_like_a_folder_with_the_same_files(config, tmp_path):
    folder = write_images(tmp_path / "photos", per_class=4, classes=CLASSES)
    write_images(folder, per_class=2, classes=CLASSES, split="val", seed=1)
    config.update(epochs=1)
    config.data.evaluation_split = "val"
    config.data.folder = str(folder)
    expected = pretrain(config, tmp_path / "folder")
    config.data.update(folder="", name="photo_net")
    data_dir = prepare(folder, tmp_path / "tfds")
    found = pretrain(config, tmp_path / "set", data_dir=data_dir)
    jax.tree.map(
        np.testing.assert_array_equal, load_encoder(found)[1], load_encoder(expected)[1]
    )
    accuracies = [
        json.loads((run / "metrics.jsonl").read_text())["eval/online_accuracy"]
        for run in (found, expected)
    ]
    assert accuracies[0] == accuracies[1]


def test_decoded_images_are_not_streamed(config):
    own = from_arrays(np.zeros((8, SIDE, SIDE, 3), np.uint8))
    with pytest.raises(UsageError, match="data.streaming=True.*dataset"):
        load_run_data(config, own)


def test_only_simclr_s_views_are_streamed(config):
    config.augment.kind = "affine"
    config.augment.update(digits.get_config().augment)
    with pytest.raises(UsageError, match="data.streaming.*augment.kind=simclr"):
        check_config(config)


def test_a_synthetic_step_has_crops(config):
    config.data.update(mean=(0.5,) * 3, std=(0.5,) * 3)
    step = SyntheticStep(config)
    assert step.host_batch["crops"].shape == (4, 2, SIDE, SIDE, 3)
    first, second = step.views()
    assert not np.array_equal(first, second)
