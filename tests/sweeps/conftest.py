import json

import numpy as np
import pytest

from isojax.configs import digits
from isojax.runs import layout
from isojax.runs.config_file import save_config
from isojax.runs.history import History
from isojax.sweeps.plan import with_seed
from isojax.sweeps.run_log import write_log_entry


@pytest.fixture(scope="session")
def config_of():
    """Returns a function that makes the config of a run of two epochs."""

    def make(run, **fields):
        config = with_seed(digits.get_config(run.preset), run.seed)
        config.epochs = 2
        config.optimizer.warmup_epochs = 1.0
        config.update_from_flattened_dict(fields)
        return config

    return make


@pytest.fixture(scope="session")
def fill(config_of):
    """Returns a function that writes the folder of a run without training it.

    Healthy projections of dimension 64 have a standard deviation of 0.125.
    """

    def make(
        directory, run, *, epochs=2, linear=0.9, ratio=20.0, std=0.12, fields=None
    ):
        folder = directory / run.name
        folder.mkdir(parents=True)
        config = config_of(run, **(fields or {}))
        save_config(folder, config)
        history = History(folder)
        for epoch in range(1, epochs + 1):
            row = {
                "step": 62 * epoch,
                "epoch": epoch,
                "train/std": std,
                "train/participation_ratio": ratio,
                "eval/effective_rank": 30.0,
                "eval/alpha_req": 1.5,
                "eval/nesum": 4.0,
            }
            history.append(row, np.ones(3))
        if linear is None:
            return folder
        result = {
            "step": history.rows[-1]["step"] if history.rows else 0,
            "accuracy": linear,
            "knn_accuracy": {"20": linear - 0.1, "200": 0.0},
            "split": "test",
            "num_train": 4000,
            "num_test": 1000,
            "penalty_chosen_on": "a fifth",
            "random_init_accuracy": 0.7,
            "random_init_knn_accuracy": {"20": 0.6},
            "raw_pixel_accuracy": 0.5,
            "raw_pixel_knn_accuracy": {"20": 0.4},
        }
        (folder / layout.RESULT_FILE).write_text(json.dumps(result))
        machine = {"backend": "cpu", "device": "cpu", "devices": 1, "cpu_cores": 2}
        (folder / layout.MACHINE_FILE).write_text(json.dumps(machine))
        write_log_entry(directory, run, {"seconds": 12.34})
        return folder

    return make
