"""The config `tinyimagenet`; see isojax/configs/tinyimagenet.py."""

from isojax.configs.tinyimagenet import get_config as get_config
