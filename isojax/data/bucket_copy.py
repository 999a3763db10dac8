"""Copies prepared data sets from a bucket to a local disk."""

import itertools
import os
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from typing import NamedTuple
from urllib.parse import quote

from isojax.data.disk import (
    make_folder,
    naming_full_disk,
    preparation_lock,
    require_space,
    require_writable,
)
from isojax.errors import UsageError, first_line
from isojax.output import print_line
from isojax.runs.bucket import Bucket

# Files that are copied last, because isojax and tensorflow-datasets take a folder with
# them for a complete one.
_LAST = ("meta.json", "dataset_info.json", "features.json")
_AT_ONCE = 8  # files; an interrupted copy continues after the last of these


class BucketCopy(NamedTuple):
    """The local copy of a part of a bucket.

    Attributes:
      root: the local folder that corresponds to the URL of the data sets.
      part: the folder that the bucket contains and that was copied.
    """

    root: Path
    part: str


def copy_part(url: str | os.PathLike, parts: Sequence[str], local: Path) -> BucketCopy:
    """Copies the first of some folders that a bucket contains, unless it is copied.

    Only files that are missing or have another size are downloaded. Other processes of
    this machine, or of all machines if the disk is shared, wait.

    Args:
      url: the URL of the data sets, such as gs://bucket/data.
      parts: names of folders in it, in order of preference.
      local: local folder of the data sets, which contains the copies.

    Raises:
      UsageError: if the bucket cannot be read or contains none of the folders, or the
        disk is full or not writable.
    """
    bucket = Bucket(url)
    root = local / "isojax" / "buckets" / quote(bucket.url, safe="")
    try:
        part, sizes = _find(bucket, parts)
        if _missing(root, sizes):
            make_folder(root, root=local)
            require_writable(root)
            with preparation_lock(root / ".lock"):
                # Another process may have copied them in the meantime.
                if missing := _missing(root, sizes):
                    _copy(bucket, part, missing, root)
    except OSError as error:
        raise UsageError(
            f"--data_dir={bucket.url} cannot be copied to {root} "
            f"({first_line(error)}); check the name and the access rights of the "
            "bucket"
        ) from error
    return BucketCopy(root, part)


def _find(bucket: Bucket, parts: Sequence[str]) -> tuple[str, dict[str, int]]:
    """Returns the first folder with objects, and their sizes by name."""
    for part in parts:
        with suppress(FileNotFoundError):
            sizes = bucket.find(part)
            if sizes:
                return part, sizes
    raise UsageError(
        f"--data_dir={bucket.url} does not contain {' or '.join(parts)}; prepare the "
        "data set in a local directory and copy that to the bucket"
    )


def _missing(root: Path, sizes: dict[str, int]) -> dict[str, int]:
    """Returns the sizes of the files that are missing or have another size."""
    return {name: size for name, size in sizes.items() if _size(root / name) != size}


def _copy(bucket: Bucket, part: str, sizes: dict[str, int], root: Path) -> None:
    purpose = f"copying {part} from {bucket.url}"
    total = sum(sizes.values())
    require_space(
        root, total, purpose=purpose, remedy="set TFDS_DATA_DIR to another disk"
    )
    print_line(
        f"{purpose[0].upper()}{purpose[1:]} to {root}, {len(sizes):,} files, "
        f"{total / 1e6:,.0f} MB, only once ..."
    )
    incoming = root / ".incoming"
    names = iter(sorted(sizes, key=lambda name: (name.endswith(_LAST), name)))
    with naming_full_disk(root, purpose=purpose):
        while batch := list(itertools.islice(names, _AT_ONCE)):
            bucket.download(batch, incoming)
            for name in batch:
                if _size(incoming / name) != sizes[name]:
                    raise UsageError(
                        f"{bucket.url}/{name} arrived with {_size(incoming / name)} of "
                        f"{sizes[name]} bytes; run the same command again"
                    )
                make_folder((root / name).parent, root=root)
                # A process that has mapped an older file keeps it.
                (incoming / name).replace(root / name)


def _size(path: Path) -> int | None:
    try:
        return path.stat().st_size
    except FileNotFoundError:
        return None
