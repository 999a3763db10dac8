"""The config `imagenet100`; see isojax/configs/imagenet100.py."""

from isojax.configs.imagenet100 import get_config as get_config
