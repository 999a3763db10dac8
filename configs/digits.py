"""The config `digits`; see isojax/configs/digits.py."""

from isojax.configs.digits import get_config as get_config
