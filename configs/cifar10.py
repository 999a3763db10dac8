"""The config `cifar10`; see isojax/configs/cifar10.py."""

from isojax.configs.cifar10 import get_config as get_config
