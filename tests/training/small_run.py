"""Complete runs of a tiny network on a few digits, which take seconds."""

from contextlib import contextmanager

import pytest
from ml_collections import ConfigDict

from isojax.configs import digits
from isojax.data import Split, load_dataset
from isojax.evaluation import images
from isojax.training import assembly, encoder, run_data
from isojax.training.settings import image_source
from tests.training.tiny_network import make_network

EPOCHS = 3


def small_config():
    config = ConfigDict(digits.get_config().to_dict())
    config.update(
        epochs=EPOCHS, batch_size=32, checkpoint_every_epochs=1, preset="isoloss"
    )
    config.optimizer.warmup_epochs = 1.0
    config.logging.lidar = False  # compiles one more program
    return config


def narrow_config(**fields):
    """Returns the config of the digits with a narrow ResNet-18 and a batch of 8."""
    config = ConfigDict(digits.get_config().to_dict())
    config.model.update({"width": 4, "hidden_dim": 8, "projection_dim": 4})
    config.batch_size = 8
    config.update(fields)
    return config


def load_small_data():
    """Loads every fortieth digit, which gives three steps per epoch."""
    full = load_dataset(image_source(digits.get_config().data))
    few = {
        name: Split(*(array[::40] for array in getattr(full, name)))
        for name in ("pretrain", "train", "evaluation")
    }
    return full._replace(**few)


@contextmanager
def using_tiny_network():
    """Makes every run use a network that compiles in a second."""

    def build(settings, *, predictor=None, axis_name=None, **_):
        return make_network(predictor, axis_name)

    with pytest.MonkeyPatch.context() as patch:
        for module in (assembly, encoder):
            patch.setattr(module, "build_network", build)
        yield


@contextmanager
def using_small_network(data):
    """Makes every run use `data` and a network that compiles in a second."""
    with using_tiny_network(), pytest.MonkeyPatch.context() as patch:
        for module in (run_data, images):
            patch.setattr(module, "load_dataset", lambda *args, **kwargs: data)
        yield
