"""Processes that train together must mean the same run."""

import json
import zlib

import numpy as np
from ml_collections import ConfigDict

from isojax import parallel
from isojax.data import Dataset
from isojax.errors import UsageError
from isojax.training.workdir import differing_fields

_SAMPLED_IMAGES = 1000


def check_agreement(config: ConfigDict, dataset: Dataset) -> None:
    """Refuses processes that differ in config or data; every process calls it.

    Args:
      config: of the run.
      dataset: as this process loaded it.

    Raises:
      UsageError: in every process, naming the first that differs and how.
    """
    here = {"config": config.to_dict(), "data": _fingerprint(dataset)}
    first, *others = (json.loads(said) for said in parallel.gather(json.dumps(here)))
    for number, other in enumerate(others, start=1):
        configs = (ConfigDict(process["config"]) for process in (first, other))
        if differing := differing_fields(*configs):
            raise UsageError(
                f"process {number} has another config than process 0: "
                f"{', '.join(differing)} (there is process 0); start all with the "
                "same flags"
            )
        if other["data"] != first["data"]:
            raise UsageError(
                f"process {number} has other training images than process 0 "
                f"({other['data']}, not {first['data']}); give all the same data"
            )


def _fingerprint(dataset: Dataset) -> str:
    """Number, shape and a checksum of all labels and of images spread over the set."""
    images, labels = dataset.pretrain
    sample = images[:: max(1, len(images) // _SAMPLED_IMAGES)]
    crc = zlib.crc32(
        np.ascontiguousarray(sample), zlib.crc32(np.ascontiguousarray(labels))
    )
    return f"{images.shape}, checksum {crc:08x}"
