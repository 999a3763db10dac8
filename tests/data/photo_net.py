"""A data set of tensorflow-datasets with the features of `imagenet2012`."""

from pathlib import Path

import tensorflow_datasets as tfds

CLASSES = ("ant", "bee", "cat")


class PhotoNet(tfds.core.GeneratorBasedBuilder):
    """JPEG files of a folder, stored in another order, as in `imagenet2012`."""

    VERSION = tfds.core.Version("1.0.0")
    folder = Path()

    def _info(self):
        return tfds.core.DatasetInfo(
            builder=self,
            features=tfds.features.FeaturesDict(
                {
                    "image": tfds.features.Image(encoding_format="jpeg"),
                    "label": tfds.features.ClassLabel(names=CLASSES),
                    "file_name": tfds.features.Text(),
                }
            ),
            supervised_keys=("image", "label"),
        )

    def _split_generators(self, dl_manager):
        return {
            "train": self._generate_examples("train"),
            "validation": self._generate_examples("val"),
        }

    def _generate_examples(self, split):
        for path in (self.folder / split).rglob("*.jpg"):
            key = f"{path.parent.name}/{path.name}"
            label = path.parent.name
            yield key, {"image": path, "label": label, "file_name": path.name}


def prepare(folder, data_dir, file_format="array_record"):
    """Prepares the data set in a folder of tensorflow-datasets, which is returned."""
    PhotoNet.folder = folder
    builder = PhotoNet(data_dir=data_dir, file_format=file_format)
    builder.download_and_prepare()
    return data_dir
