"""STL-10: 105,000 images of 96×96 pixels, 5,000 of them labelled.

    python train.py --config=configs/stl10.py[:PRESET] --workdir=runs/stl10

The recipe of Halvagal et al. 2023, appendix D, table 3. `isojax/configs/base.py` lists
the presets and the differences of `official`, the recipe of the authors' code. 1,000
epochs need an accelerator. No accuracy has been measured with this config yet.
"""

from ml_collections import ConfigDict

from isojax.configs import base


def get_config(preset: str = base.DEFAULT_PRESET) -> ConfigDict:
    """Returns ResNet-18 on STL-10."""
    config = base.get_config(preset)
    config.data.name = "stl10"
    config.data.resolution = 96
    config.data.pretrain_split = "train+unlabelled"
    config.data.train_split = "train"
    config.data.evaluation_split = "test"
    config.data.mean = (0.4467, 0.4398, 0.4066)
    config.data.std = (0.2603, 0.2566, 0.2713)

    config.model.kernel_size = 7
    config.model.stride = 2
    config.model.max_pool = True
    config.model.patch_size = 8

    base.set_simclr_augmentation(config, strength=1.0, blur_probability=0.5)
    if base.is_official(config):
        config.augment.blur_probability = 1.0
        config.augment_view2.blur_probability = 0.1
        config.data.mean = (0.4914, 0.4823, 0.4466)
        config.data.std = (0.247, 0.243, 0.261)
    return config.lock()
