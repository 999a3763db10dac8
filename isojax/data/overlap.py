"""Finds images that two splits have in common."""

import re

import numpy as np

from isojax.data.dataset import ImageArray

_EVERYTHING = "all"  # the split of tensorflow-datasets that joins all others


def may_share_images(split: str, other: str) -> bool:
    """Returns whether two split expressions refer to a common split.

    Args:
      split: split in the notation of tensorflow-datasets, such as `train[:50%]+test`.
      other: another split.
    """
    names, others = _split_names(split), _split_names(other)
    return bool(names & others) or _EVERYTHING in names | others


def _split_names(split: str) -> set[str]:
    return {re.sub(r"\[.*", "", part).strip() for part in split.split("+")}


def count_common(images: ImageArray, others: ImageArray) -> int:
    """Counts the images that are also in `others`, byte for byte.

    Images that are decoded when they are read are compared by the names of their files.

    Args:
      images: shape (n, h, w, c).
      others: shape (m, h, w, c).
    """
    known = set(_hashes(others))
    return sum(image in known for image in _hashes(images))


def is_overlapping(images: ImageArray, others: ImageArray) -> bool:
    """Returns whether two parts of one split overlap.

    Parts keep the order of their split. A common image is therefore counted as overlap
    only if the next or the previous image is common too, or if a part begins or ends
    there. A single image that occurs twice in the split is not an overlap.

    Args:
      images: shape (n, h, w, c).
      others: shape (m, h, w, c).
    """
    first, second = _hashes(images), _hashes(others)
    places = {image: place for place, image in enumerate(first)}

    def continues(i: int, j: int) -> bool:
        inside = 0 <= i < len(first) and 0 <= j < len(second)
        return not inside or first[i] == second[j]

    return any(
        continues(i + 1, j + 1) or continues(i - 1, j - 1)
        for j, image in enumerate(second)
        if (i := places.get(image)) is not None
    )


def _hashes(images: ImageArray) -> list[int]:
    if isinstance(images, np.ndarray):
        return [hash(image.tobytes()) for image in images]
    return [hash(name) for name in images.names()]
