"""The config `stl10`; see isojax/configs/stl10.py."""

from isojax.configs.stl10 import get_config as get_config
