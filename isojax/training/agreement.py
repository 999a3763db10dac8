"""Processes that train together must mean the same run."""

import json
import os
import zlib

import numpy as np
from ml_collections import ConfigDict

from isojax import parallel
from isojax.data import Dataset, Split
from isojax.errors import UsageError
from isojax.runs.config_file import flat_fields

_SAMPLED_IMAGES = 1000


def check_agreement(
    config: ConfigDict, dataset: Dataset, **places: str | os.PathLike | None
) -> None:
    """Refuses processes that differ in config, data, folders or number of devices.

    Every process calls it.

    Args:
      config: of the run.
      dataset: as this process loaded it.
      **places: folders that all must be given alike, such as `workdir`.

    Raises:
      UsageError: in every process, naming the first that differs and how.
    """
    flags = {f"--{name}": place and os.fspath(place) for name, place in places.items()}
    here = {
        "config": {f"config.{n}": v for n, v in flat_fields(config).items()} | flags,
        "devices": parallel.local_device_count(),
        "data": [_fingerprint(dataset.pretrain), _fingerprint(dataset.evaluation)],
    }
    first, *others = (json.loads(said) for said in parallel.gather(json.dumps(here)))
    for number, other in enumerate(others, start=1):
        differing = [
            f"{name} ({first['config'].get(name)}, there {other['config'].get(name)})"
            for name in sorted({*first["config"], *other["config"]})
            if first["config"].get(name) != other["config"].get(name)
        ]
        if differing:
            raise UsageError(
                f"process {number} was started otherwise than process 0: "
                f"{', '.join(differing)}; start all with the same flags"
            )
        if other["devices"] != first["devices"]:
            raise UsageError(
                f"process {number} has {other['devices']} devices, process 0 "
                f"{first['devices']}; give all the same number"
            )
        if other["data"] != first["data"]:
            raise UsageError(
                f"process {number} has other images than process 0 "
                f"({other['data']}, not {first['data']}); give all the same data"
            )


def _fingerprint(split: Split) -> str:
    """Number, shape and a checksum of all labels and of images spread over the set."""
    images, labels = split
    sample = images[:: max(1, len(images) // _SAMPLED_IMAGES)]
    crc = zlib.crc32(
        np.ascontiguousarray(sample), zlib.crc32(np.ascontiguousarray(labels))
    )
    return f"{images.shape}, checksum {crc:08x}"
