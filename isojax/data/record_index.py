"""Names and labels of the records of a split, read once and stored on disk."""

import io
import zipfile
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple, Protocol

import numpy as np

from isojax.data.disk import (
    fingerprint,
    make_folder,
    naming_full_disk,
    preparation_lock,
    require_writable,
)
from isojax.errors import UsageError, first_line
from isojax.files import write_atomically
from isojax.output import print_line
from isojax.progress import image_bar

_VERSION = "1"  # increase it whenever an index would be written differently
_FILE_NAME = "file_name"  # feature with the name of an image's original file
_CHUNK = 128  # records
_DAMAGED = (OSError, ValueError, KeyError, EOFError, zipfile.BadZipFile)


class Records(Protocol):
    """Records with random access, such as those of `as_data_source`."""

    def __len__(self) -> int:
        """Number of records."""

    def __getitem__(self, number: int) -> dict[str, Any]:
        """Returns a record: encoded image, label and other features by name."""

    def __getitems__(self, numbers: Sequence[int]) -> Sequence[dict[str, Any]]:
        """Returns several records."""


class Shard(NamedTuple):
    """The records of one file that belong to a split.

    Attributes:
      path: the file.
      split: name of the split whose file it is.
      first: number of the first record in the file.
      records: number of records.
    """

    path: Path
    split: str
    first: int
    records: int


class RecordIndex(NamedTuple):
    """The images of a split, in the order of a folder of image files.

    Attributes:
      records: number of each image's record in the split, shape (n,) int64.
      labels: (n,) int32, -1 for images without a label.
      names: SPLIT/CLASS/FILE of each image, sorted by label, then by name. FILE is the
        feature `file_name`; without it, file and number of the record.
    """

    records: np.ndarray
    labels: np.ndarray
    names: tuple[str, ...]


def read_index(
    records: Records,
    shards: Sequence[Shard],
    path: Path,
    *,
    data_dir: Path,
    label: str,
    label_names: Sequence[str],
) -> RecordIndex:
    """Returns the index of a split, from the disk if possible.

    The stored index is valid as long as sizes and modification times of the files of
    records stay the same.

    Args:
      records: the records of the split, images not decoded.
      shards: the files that contain them, in order.
      path: stem of the path of the stored index, whose last part describes the split.
      data_dir: folder that contains `path`.
      label: name of the feature with the label.
      label_names: name of each class.

    Raises:
      UsageError: if records cannot be read, or the index cannot be written.
    """
    stored = path.with_name(f"{path.name}-{_fingerprint(shards, label_names)}.npz")
    if (found := _read(stored)) is not None:
        return found
    purpose = f"indexing {path.name} of {shards[0].path.parent}"
    make_folder(stored.parent, root=data_dir)
    require_writable(stored.parent)
    with preparation_lock(stored.parent / ".lock"):
        found = _read(stored)  # written by the previous holder of the lock
        if found is None:
            print_line(
                f"{purpose[0].upper()}{purpose[1:]}, {len(records):,} images, only "
                "once ..."
            )
            found = _index(records, shards, label, label_names)
            with naming_full_disk(stored.parent, purpose=purpose):
                _write(stored, found)
    return found


def _fingerprint(shards: Sequence[Shard], label_names: Sequence[str]) -> str:
    return fingerprint(
        (_VERSION, *label_names),
        ((shard.path, (shard.path.name, *shard[1:])) for shard in shards),
        remedy="restore it, or prepare the data set again",
    )


def _read(path: Path) -> RecordIndex | None:
    try:
        with np.load(io.BytesIO(path.read_bytes())) as stored:
            names = stored["names"].tobytes().decode().split("\n")
            return RecordIndex(stored["records"], stored["labels"], tuple(names))
    except FileNotFoundError:
        return None
    except _DAMAGED as error:
        print_line(f"{path} is damaged ({first_line(error)}) and is written again.")
        return None


def _write(path: Path, index: RecordIndex) -> None:
    names = np.frombuffer("\n".join(index.names).encode(), np.uint8)
    file = io.BytesIO()
    np.savez_compressed(file, records=index.records, labels=index.labels, names=names)
    write_atomically(path, file.getvalue())


def _index(
    records: Records, shards: Sequence[Shard], label: str, label_names: Sequence[str]
) -> RecordIndex:
    labels = np.zeros(len(records), np.int32)
    names: list[str] = []
    examples = _examples(records, shards[0].path.parent)
    for number, (place, example) in enumerate(
        zip(_places(shards), examples, strict=True)
    ):
        labels[number] = example[label]
        name = example.get(_FILE_NAME, b"").decode(errors="replace") or place.name
        class_name = f"{label_names[labels[number]]}/" if labels[number] >= 0 else ""
        names.append(f"{place.parent}/{class_name}{name}")
    order = sorted(
        range(len(names)), key=lambda number: (labels[number], names[number])
    )
    return RecordIndex(
        np.array(order, np.int64), labels[order], tuple(names[n] for n in order)
    )


def _examples(records: Records, folder: Path) -> Iterator[dict[str, Any]]:
    """Yields all records in order."""
    with image_bar(f"indexing {folder}", total=len(records)) as bar:
        for first in range(0, len(records), _CHUNK):
            numbers = range(first, min(first + _CHUNK, len(records)))
            yield from read_records(records, numbers, folder)
            bar.update(len(numbers))


def read_records(
    records: Records, numbers: Sequence[int], folder: Path
) -> Sequence[dict[str, Any]]:
    """Returns some records.

    Args:
      records: the records of a split.
      numbers: numbers of the records.
      folder: folder of the files of records, for the error message.

    Raises:
      UsageError: if they cannot be read.
    """
    try:
        return records.__getitems__(list(numbers))
    except (RuntimeError, ValueError, OSError) as error:
        raise UsageError(
            f"the records in {folder} are damaged ({first_line(error)}); delete the "
            "folder and prepare the data set again"
        ) from error


def _places(shards: Sequence[Shard]) -> Iterator[Path]:
    """Yields SPLIT/FILE:NUMBER of each record."""
    for shard in shards:
        for number in range(shard.first, shard.first + shard.records):
            yield Path(shard.split, f"{shard.path.name}:{number:08}")
