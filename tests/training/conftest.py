"""Runs of a tiny network, and batches for it."""

from functools import partial
from types import MappingProxyType, SimpleNamespace

import jax
import numpy as np
import pytest
from ml_collections import ConfigDict

from isojax import data_parallel
from isojax.configs import digits
from isojax.training import pretrain
from isojax.training.feeding import with_shared_images
from isojax.training.step import train_step
from tests.training.small_run import load_small_data, small_config, using_small_network
from tests.training.tiny_network import (
    SIDE,
    TOTAL_STEPS,
    make_context,
    make_first_state,
    make_network,
)


@pytest.fixture(scope="session")
def tiny_network():
    """Returns a function that builds the network for a predictor and an axis name."""
    return make_network


@pytest.fixture
def tiny_run():
    """Returns a function that makes a run: config, first state and unmapped step."""

    def make(
        axis_name=None,
        optimizer="sgd",
        microbatches=1,
        precision=None,
        optimizer_fields=MappingProxyType({}),
        **method,
    ):
        config = ConfigDict(digits.get_config().to_dict())
        config.method.update(method)
        config.microbatches = microbatches
        network = make_network(config.method.predictor, axis_name, precision)
        config.optimizer.update(name=optimizer, warmup_epochs=0.0, **optimizer_fields)
        context = make_context(config, network, axis_name)
        return SimpleNamespace(
            config=config,
            network=network,
            context=context,
            step=partial(train_step, context),
            state=make_first_state(context),
            total_steps=TOTAL_STEPS,
            axis_name=axis_name,
        )

    return make


@pytest.fixture
def spread_run(tiny_run):
    """Returns a function like `tiny_run`, with the step mapped over all devices."""
    if jax.device_count() < 4:
        pytest.skip("needs four devices")

    def make(**fields):
        run = tiny_run(axis_name=data_parallel.AXIS, **fields)
        mapped = data_parallel.MappedStep(with_shared_images(run.step))
        run.step = lambda state, batch: mapped(state, batch, {})[:2]
        run.state = data_parallel.replicate(run.state)
        return run

    return make


@pytest.fixture
def batch():
    rng = np.random.default_rng(0)
    return {
        "images": rng.integers(0, 256, (16, SIDE, SIDE, 1), dtype=np.uint8),
        "labels": rng.integers(0, 3, 16, dtype=np.int32),
        "indices": np.arange(16, dtype=np.int32),
    }


@pytest.fixture(scope="session")
def small_data():
    return load_small_data()


@pytest.fixture(scope="module")
def small_run(small_data):
    """Makes every run of a test module use the small data and the tiny network."""
    with using_small_network(small_data):
        yield


@pytest.fixture(scope="session")
def finished(small_data, tmp_path_factory):
    """Returns the folder of a run that was not interrupted."""
    with using_small_network(small_data):
        return pretrain(small_config(), tmp_path_factory.mktemp("runs") / "whole")
