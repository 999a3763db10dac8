"""The default config, 28×28 digits: a run takes minutes on a laptop."""

from ml_collections import ConfigDict

from isojax.configs import base


def get_config(preset: str = base.DEFAULT_PRESET) -> ConfigDict:
    """Returns a narrow ResNet-18 on 28×28 digits."""
    config = base.get_config(preset)
    base.refuse_official(config, "the digits")
    base.set_narrow_recipe(config)
    config.epochs = 50
    config.optimizer.warmup_epochs = 2.0
    config.model.stride = 2
    config.model.max_pool = True  # maps of side 7, 4, 2, 1; takes a third of the time

    config.augment.kind = "affine"
    config.augment.crop_scale = (1.0, 1.0)  # smallest and largest area of the crop
    config.augment.crop_ratio = (0.75, 1.3333)  # smallest and largest width over height
    # Largest deviations in either direction.
    config.augment.rotation = 18.0  # degrees
    config.augment.log_scale = 0.15  # logarithm of the size
    config.augment.log_aspect = 0.12  # logarithm of width over height
    config.augment.shear = 0.25  # columns per row
    config.augment.shift = 0.06  # fraction of the side
    config.augment.brightness = 0.3  # deviation of the factor from 1
    config.augment.contrast = 0.3  # deviation of the factor from 1
    return config.lock()
