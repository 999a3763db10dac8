"""CIFAR-10: 50,000 training images of 32×32 pixels.

    python train.py --config=configs/cifar10.py[:PRESET] --workdir=runs/cifar10

The recipe of Halvagal et al. 2023, appendix D, table 3. `isojax/configs/base.py` lists
the presets and the differences of `official`, the recipe of the authors' code. 1,000
epochs need an accelerator. No accuracy has been measured with this config yet.
"""

from ml_collections import ConfigDict

from isojax.configs import base


def get_config(preset: str = base.DEFAULT_PRESET) -> ConfigDict:
    """Returns ResNet-18 on CIFAR-10."""
    config = base.get_config(preset)
    config.data.name = "cifar10"
    config.data.resolution = 32
    config.data.pretrain_split = "train"
    config.data.train_split = "train"
    config.data.evaluation_split = "test"
    config.data.mean = (0.4914, 0.4822, 0.4465)
    config.data.std = (0.2470, 0.2435, 0.2616)

    base.set_simclr_augmentation(config, strength=0.5, blur_probability=0.0)
    if base.is_official(config):
        config.model.padding = 2
    return config.lock()
