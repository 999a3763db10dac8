"""Checks that processes that work together have the same settings and data."""

import json
import os
import zlib

import numpy as np
from ml_collections import ConfigDict

from isojax import data_parallel, processes
from isojax.data import Dataset, Split
from isojax.errors import UsageError
from isojax.runs.config_file import flat_fields

_SAMPLED_IMAGES = 1000


def check_agreement(
    config: ConfigDict, dataset: Dataset, **settings: str | os.PathLike | None
) -> None:
    """Checks that config, data, flags and number of devices are the same everywhere.

    Must be called by every process.

    Args:
      config: the run's configuration.
      dataset: the images that this process has loaded.
      **settings: folders and settings that must be the same, by the names of their
        flags, such as `workdir`.

    Raises:
      UsageError: in every process, if a process differs from process 0. The message
        names the first such process and the difference.
    """
    if processes.process_part()[1] == 1:
        return
    flags = {
        f"--{name}": value and os.fspath(value) for name, value in settings.items()
    }
    here = {
        "config": {f"config.{n}": v for n, v in flat_fields(config).items()} | flags,
        "devices": data_parallel.local_device_count(),
        "data": [
            _fingerprint(split)
            for split in (dataset.pretrain, dataset.train, dataset.evaluation)
        ],
    }
    first, *others = (json.loads(each) for each in processes.gather(json.dumps(here)))
    for number, other in enumerate(others, start=1):
        differing = [
            f"{name} ({other['config'].get(name)}, not {first['config'].get(name)})"
            for name in sorted({*first["config"], *other["config"]})
            if first["config"].get(name) != other["config"].get(name)
        ]
        if differing:
            raise UsageError(
                f"process {number} was started with different flags from process 0: "
                f"{', '.join(differing)}; start all with the same flags"
            )
        if other["devices"] != first["devices"]:
            raise UsageError(
                f"process {number} has {other['devices']} devices and process 0 has "
                f"{first['devices']}; start all with the same number"
            )
        if other["data"] != first["data"]:
            raise UsageError(
                f"process {number} loaded different images from process 0 "
                f"({other['data']}, not {first['data']}); start all with the same data"
            )


def _fingerprint(split: Split) -> str:
    """Shape of the images, and a checksum of all labels and of a sample of images."""
    images, labels = split
    sample = images[:: max(1, len(images) // _SAMPLED_IMAGES)]
    crc = zlib.crc32(np.ascontiguousarray(labels).data)
    crc = zlib.crc32(np.ascontiguousarray(sample).data, crc)
    return f"{images.shape}, checksum {crc:08x}"
