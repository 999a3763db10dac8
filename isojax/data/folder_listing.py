"""Lists the image files of a folder and their classes, without decoding them.

`FOLDER/SPLIT/CLASS/...` holds labelled images, `FOLDER/SPLIT/*` images without labels.
A folder that contains images, but no folder `train`, is itself the split `train`.
"""

import os
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np

from isojax.data import disk
from isojax.errors import UsageError, first_line

EXTENSIONS = (".bmp", ".jpeg", ".jpg", ".png", ".tif", ".tiff", ".webp")
TRAIN = "train"
_MOST_NAMES = 5  # names that a message lists


class ImageFiles(NamedTuple):
    """The image files of a split.

    Attributes:
      root: the folder that contains the splits.
      names: paths relative to `root`, sorted by class, then by name.
      labels: (n,) int32, indices of `label_names`; -1 for images without a label.
      label_names: name of each class, sorted; empty without class folders.
    """

    root: Path
    names: tuple[str, ...]
    labels: np.ndarray
    label_names: tuple[str, ...]


def list_images(
    folder: str | os.PathLike, split: str, *, label_names: Sequence[str] = ()
) -> ImageFiles:
    """Lists the images of a split.

    Files with other extensions than `EXTENSIONS`, and hidden files and folders, are
    skipped. Class folders are searched recursively.

    Args:
      folder: the folder that contains the splits.
      split: name of a subfolder; `+` joins several.
      label_names: names of the classes of another split, usually the training split.
        By default the split's own class folders. Not used for images without labels.

    Returns:
      The files, at least one.

    Raises:
      UsageError: if the folder or split is missing, not local, unreadable or contains
        no images, has images both inside and outside of class folders, or has other
        classes than `label_names`.
    """
    if "://" in os.fspath(folder):
        raise UsageError(
            f"the folder {os.fspath(folder)} is not a local path; copy or mount it, "
            "and give its local path"
        )
    root = Path(folder).expanduser()
    try:
        parts = [_list_split(root, name.strip()) for name in split.split("+")]
    except OSError as error:
        raise UsageError(
            f"{error.filename} cannot be read ({first_line(error)}); check the path "
            "and its permissions"
        ) from error
    classes = [name for part in parts for name, _ in part if name is not None]
    label_names = tuple(label_names) or tuple(sorted(set(classes)))
    if unknown := sorted(set(classes) - set(label_names)):
        raise UsageError(
            f"{root / split} has {_some(unknown, 'class folder')} that the training "
            f"split lacks ({_some(label_names, 'class')}); remove or rename them"
        )
    number = {name: label for label, name in enumerate(label_names)}
    files = [(name, file) for part in parts for name, files in part for file in files]
    labels = [-1 if name is None else number[name] for name, _ in files]
    return ImageFiles(
        root, tuple(file for _, file in files), np.array(labels, np.int32), label_names
    )


def only_classes(files: ImageFiles, names: Sequence[str], origin: str) -> ImageFiles:
    """Keeps the images of some classes.

    Args:
      files: the files of a split.
      names: names of the class folders to keep, in the order of their labels.
      origin: the file that the names were read from, for the error message.

    Returns:
      The files of these classes.

    Raises:
      UsageError: if there are no class folders, or a class has no images.
    """
    labels = labels_among(
        files.labels, files.label_names, names, origin=origin, root=files.root
    )
    kept = np.flatnonzero(labels >= 0)
    return ImageFiles(
        files.root,
        tuple(files.names[number] for number in kept),
        labels[kept],
        tuple(names),
    )


def labels_among(
    labels: np.ndarray,
    label_names: Sequence[str],
    names: Sequence[str],
    *,
    origin: str,
    root: Path,
) -> np.ndarray:
    """Renumbers the labels of some classes.

    Args:
      labels: the labels, shape (n,) int32, indices of `label_names` or -1.
      label_names: names of all classes.
      names: names of the classes to keep, in the order of their new labels.
      origin: the file that `names` were read from, for the error message.
      root: where the images are, for the error message.

    Returns:
      Indices of `names`, -1 for all other images; shape (n,) int32.

    Raises:
      UsageError: if there are no classes, or one of `names` is not among them.
    """
    if not label_names:
        raise UsageError(
            f"config.data.classes={origin} needs class folders, which {root} does not "
            'have; set config.data.classes=""'
        )
    if missing := sorted(set(names) - set(label_names)):
        raise UsageError(
            f"{root} lacks {_some(missing, 'class')} of config.data.classes={origin}; "
            f"it has {_some(label_names, 'class')}"
        )
    label_of = {name: label for label, name in enumerate(names)}
    new = np.array([label_of.get(name, -1) for name in label_names], np.int32)
    return np.where(labels >= 0, new[labels], -1).astype(np.int32)


def read_classes(path: str | os.PathLike) -> tuple[str, ...]:
    """Reads the names of classes from a file, one a line.

    Empty lines, and a `#` with the text after it, are ignored.

    Args:
      path: the file.

    Returns:
      The names, sorted.

    Raises:
      UsageError: if the file cannot be read, or contains no name or a name twice.
    """
    try:
        # Editors on Windows write a byte order mark.
        text = Path(path).expanduser().read_text(encoding="utf-8-sig")
    except (OSError, UnicodeDecodeError) as error:
        raise UsageError(
            f"config.data.classes={path} cannot be read ({first_line(error)}); give a "
            "text file with the name of a class folder on each line"
        ) from error
    names = [
        name for line in text.splitlines() if (name := line.partition("#")[0].strip())
    ]
    if not names:
        raise UsageError(
            f"config.data.classes={path} contains no class; write the name of a class "
            "folder on each line"
        )
    if repeated := sorted({name for name in names if names.count(name) > 1}):
        raise UsageError(
            f"config.data.classes={path} repeats {_some(repeated, 'class')}; name each "
            "class once"
        )
    return tuple(sorted(names))


def split_names(folder: str | os.PathLike) -> tuple[str, ...]:
    """Returns the names of the splits of a folder: its subfolders, or "train"."""
    root = Path(folder).expanduser()
    subfolders, files = _content(root)
    if TRAIN not in subfolders and files:
        return (TRAIN,)
    return tuple(subfolders)


def fingerprint(files: ImageFiles) -> str:
    """Returns a checksum of names, classes, sizes and modification times of files.

    Args:
      files: the files, which exist.

    Returns:
      16 hexadecimal digits.

    Raises:
      UsageError: if a file cannot be read.
    """
    root = os.fspath(files.root)
    return disk.fingerprint(
        files.label_names,
        (
            (os.path.join(root, name), (name, label))
            for name, label in zip(files.names, files.labels.tolist(), strict=True)
        ),
        remedy="restore or remove it",
    )


def _list_split(root: Path, split: str) -> list[tuple[str | None, list[str]]]:
    """Returns class, or None, and files of each class folder of a split, sorted."""
    if not root.exists():
        raise UsageError(f"there is no folder {root}; check the path")
    if not root.is_dir():
        raise UsageError(
            f"{root} is a file; choose the folder that contains the images"
        )
    splits = split_names(root)
    if not splits:
        raise UsageError(
            f"{root} contains no images ({', '.join(EXTENSIONS)}) and no folder "
            f"{TRAIN}; put images into it, or into {root / TRAIN}/CLASS"
        )
    if split not in splits:
        raise UsageError(
            f"{root} has no folder {split!r}; it has {_some(splits, 'folder')}. Move "
            f"the images into {root}/{split}/CLASS, or set config.data.pretrain_split, "
            "train_split and evaluation_split to folders that it has"
        )
    folder = root / split if (root / split).is_dir() else root
    prefix = f"{split}/" if folder != root else ""
    subfolders, files = _content(folder)
    if folder == root:
        return [(None, files)]
    classes = {name: _files_below(folder / name) for name in subfolders}
    found = sorted(name for name, below in classes.items() if below)
    if files and found:
        raise UsageError(
            f"{folder} contains {len(files):,} images outside of its class folders; "
            "move them into a class folder, or into a folder of their own beside "
            f"{folder.name}"
        )
    if files:
        return [(None, [prefix + file for file in files])]
    if not found:
        raise UsageError(
            f"{folder} contains no images; put some with an extension of "
            f"{', '.join(EXTENSIONS)} into it"
        )
    if empty := sorted(set(subfolders) - set(found)):
        raise UsageError(
            f"{_some(empty, 'class folder')} in {folder} contain no images; add images "
            "or remove the folders"
        )
    return [
        (name, [f"{prefix}{name}/{file}" for file in classes[name]]) for name in found
    ]


def _content(folder: Path) -> tuple[list[str], list[str]]:
    """Returns the visible subfolders and the images of a folder, each sorted."""
    with os.scandir(folder) as entries:
        visible = [entry for entry in entries if not entry.name.startswith(".")]
    subfolders = [entry.name for entry in visible if entry.is_dir()]
    files = [e.name for e in visible if _is_image(e.name) and not e.is_dir()]
    return sorted(subfolders), sorted(files)


def _files_below(folder: Path) -> list[str]:
    """Returns the relative paths of all images below a folder, sorted."""
    subfolders, files = _content(folder)
    below = [
        f"{name}/{file}" for name in subfolders for file in _files_below(folder / name)
    ]
    return sorted([*files, *below])


def _is_image(name: str) -> bool:
    return name.lower().endswith(EXTENSIONS)


def _some(names: Sequence[str], noun: str) -> str:
    """Formats a count and the first few of some names."""
    more = ", ..." if len(names) > _MOST_NAMES else ""
    plural = noun if len(names) == 1 else f"{noun}{'es' if noun[-1] == 's' else 's'}"
    return f"{len(names):,} {plural}: {', '.join(names[:_MOST_NAMES])}{more}"
