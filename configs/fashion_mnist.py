"""The config `fashion_mnist`; see isojax/configs/fashion_mnist.py."""

from isojax.configs.fashion_mnist import get_config as get_config
