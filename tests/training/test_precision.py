"""Mixed precision in whole runs."""

import json

import numpy as np
import pytest

from isojax.configs import digits
from isojax.errors import UsageError
from isojax.training import pretrain


def losses(folder, **fields):
    config = digits.get_config().unlock()
    config.epochs, config.optimizer.warmup_epochs = 6, 1.0
    config.model.width, config.model.hidden_dim = 8, 64
    config.data.validation_fraction = 0.75
    config.update(fields)
    pretrain(config, folder)
    lines = (folder / "metrics.jsonl").read_text().splitlines()
    return np.array([json.loads(line)["train/loss"] for line in lines])


@pytest.mark.slow
def test_the_loss_in_bfloat16_stays_within_the_noise_of_seeds(tmp_path):
    seeds = np.stack([losses(tmp_path / f"{s}", seed=s) for s in range(4)])
    mixed = losses(tmp_path / "mixed", precision="bfloat16")
    assert (mixed != seeds[0]).all()
    assert mixed[-1] < mixed[0]
    noise = np.sqrt(seeds.var(axis=0, ddof=1).mean())  # of a seed, over all epochs
    assert np.abs(mixed - seeds.mean(axis=0)).max() < 3 * noise, (mixed, seeds)


def test_another_precision_is_refused(tmp_path):
    with pytest.raises(UsageError, match="choose one of float32, bfloat16"):
        losses(tmp_path, precision="float16")
