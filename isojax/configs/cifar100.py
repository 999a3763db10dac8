"""CIFAR-100: 50,000 training images of 32×32 pixels.

    python train.py --config=configs/cifar100.py[:PRESET] --workdir=runs/cifar100

The recipe of Halvagal et al. 2023, appendix D, table 3. `isojax/configs/base.py` lists
the presets and the differences of `official`, the recipe of the authors' code. 1,000
epochs need an accelerator. No accuracy has been measured with this config yet.
"""

from ml_collections import ConfigDict

from isojax.configs import base


def get_config(preset: str = base.DEFAULT_PRESET) -> ConfigDict:
    """Returns ResNet-18 on CIFAR-100."""
    config = base.get_config(preset)
    config.data.name = "cifar100"
    config.data.resolution = 32
    config.data.pretrain_split = "train"
    config.data.train_split = "train"
    config.data.evaluation_split = "test"
    config.data.mean = (0.5071, 0.4865, 0.4409)
    config.data.std = (0.2673, 0.2564, 0.2762)

    base.set_simclr_augmentation(config, strength=0.5, blur_probability=0.0)
    if base.is_official(config):
        config.model.padding = 2
    return config.lock()
