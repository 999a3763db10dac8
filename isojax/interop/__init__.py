"""Conversion of weights from and to the formats of other libraries."""

from isojax.interop.solo_learn import load_solo_learn as load_solo_learn
from isojax.interop.timm import timm_state_dict as timm_state_dict
from isojax.interop.torchvision import (
    from_torchvision_state_dict as from_torchvision_state_dict,
)
from isojax.interop.torchvision import torchvision_state_dict as torchvision_state_dict
