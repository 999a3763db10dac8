"""TinyImageNet: 100,000 training images of 64×64 pixels in 200 classes.

    python train.py --config=configs/tinyimagenet.py[:PRESET] --workdir=runs/tiny

The recipe of Halvagal et al. 2023, appendix D, table 3. `isojax/configs/base.py` lists
the presets and the differences of `official`, the recipe of the authors' code. 1,000
epochs need an accelerator. No accuracy has been measured with this config yet.
"""

from ml_collections import ConfigDict

from isojax.configs import base


def get_config(preset: str = base.DEFAULT_PRESET) -> ConfigDict:
    """Returns ResNet-18 on TinyImageNet."""
    config = base.get_config(preset)
    config.data.name = "tiny_imagenet"
    config.data.resolution = 64
    config.data.pretrain_split = "train"
    config.data.train_split = "train"
    config.data.evaluation_split = "validation"
    config.data.mean = (0.4802, 0.4481, 0.3975)
    config.data.std = (0.2770, 0.2691, 0.2821)

    config.model.max_pool = True
    config.model.patch_size = 8

    base.set_simclr_augmentation(config, strength=0.5, blur_probability=0.0)
    if base.is_official(config):
        config.model.kernel_size = 7
        config.model.stride = 2
        config.data.mean = (0.485, 0.456, 0.406)  # ImageNet's
        config.data.std = (0.229, 0.224, 0.225)
    return config.lock()
