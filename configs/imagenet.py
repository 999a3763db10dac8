"""The config `imagenet`; see isojax/configs/imagenet.py."""

from isojax.configs.imagenet import get_config as get_config
