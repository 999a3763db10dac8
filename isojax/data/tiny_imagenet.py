"""TinyImageNet as a builder of tensorflow-datasets, under the name `tiny_imagenet`.

tensorflow-datasets reads the archive's size and SHA-256 from `checksums.tsv` in the
folder of this file.
"""

import io
import zipfile
from collections.abc import Iterator
from typing import Any

import tensorflow_datasets as tfds

URL = "http://cs231n.stanford.edu/tiny-imagenet-200.zip"
_ROOT = "tiny-imagenet-200"


class TinyImagenet(tfds.core.GeneratorBasedBuilder):
    """100,000 training and 10,000 validation images of 200 classes, 64×64.

    The test set is left out, because its images have no labels.
    """

    VERSION = tfds.core.Version("1.0.0")

    def _info(self) -> tfds.core.DatasetInfo:
        return tfds.core.DatasetInfo(
            builder=self,
            description="200 classes of ImageNet, 500 training images each, 64×64.",
            features=tfds.features.FeaturesDict(
                {
                    # Grey-scale files are repeated in all 3 channels.
                    "image": tfds.features.Image(
                        shape=(64, 64, 3), encoding_format="jpeg"
                    ),
                    "label": tfds.features.ClassLabel(num_classes=200),
                }
            ),
            supervised_keys=("image", "label"),
            homepage="https://cs231n.stanford.edu/",
        )

    def _split_generators(self, dl_manager: tfds.download.DownloadManager) -> dict:
        # Read from the archive: extracting 110,000 small files takes minutes.
        archive = zipfile.ZipFile(dl_manager.download(URL))
        wnids = _lines(archive, "wnids.txt")
        words = dict(line.split("\t") for line in _lines(archive, "words.txt"))
        self.info.features["label"].names = [f"{wnid} {words[wnid]}" for wnid in wnids]
        train: dict[str, list[str]] = {wnid: [] for wnid in wnids}
        for name in archive.namelist():
            part, *rest = name.removeprefix(f"{_ROOT}/").split("/")
            if part == "train" and name.endswith(".JPEG"):
                train[rest[0]].append(name)
        validation: dict[str, list[str]] = {wnid: [] for wnid in wnids}
        for line in _lines(archive, "val/val_annotations.txt"):
            file, wnid, *_ = line.split("\t")
            validation[wnid].append(f"{_ROOT}/val/images/{file}")
        return {
            "train": self._generate_examples(archive, train),
            "validation": self._generate_examples(archive, validation),
        }

    def _generate_examples(
        self, archive: zipfile.ZipFile, files: dict[str, list[str]]
    ) -> Iterator[tuple[str, dict[str, Any]]]:
        for label, names in enumerate(files.values()):
            for name in names:
                image = io.BytesIO(archive.read(name))
                yield name, {"image": image, "label": label}


def _lines(archive: zipfile.ZipFile, name: str) -> list[str]:
    return archive.read(f"{_ROOT}/{name}").decode().splitlines()
