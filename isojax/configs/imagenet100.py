"""ImageNet-100: 100 of ImageNet's classes, about 127,000 training images.

    python train.py --config=configs/imagenet100.py[:PRESET] --workdir=runs/imagenet100
                    --config.data.folder=PATH --config.data.classes=FILE

PATH is the folder of ImageNet, as for `isojax/configs/imagenet.py`, whose recipes and
remarks hold here too, those on tensorflow-datasets included. FILE has the name of one
class, such as n01440764, on each line; omit it if PATH contains only these classes. No
accuracy has been measured with this config yet.
"""

from ml_collections import ConfigDict

from isojax.configs import base, imagenet


def get_config(preset: str = base.DEFAULT_PRESET) -> ConfigDict:
    """Returns ResNet-50 on ImageNet-100."""
    return imagenet.get_config(preset)
