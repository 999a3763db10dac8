"""The config `cifar100`; see isojax/configs/cifar100.py."""

from isojax.configs.cifar100 import get_config as get_config
