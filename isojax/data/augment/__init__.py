"""Augmentation on the device: pure functions of images, floats in [0, 1].

Operations named after torchvision functions act on one image of shape (h, w, c) and
compute the same. Random views take a key and a NamedTuple of settings, and draw every
random number from the key.
"""

from isojax.data.augment.affine import AffineSettings as AffineSettings
from isojax.data.augment.affine import affine as affine
from isojax.data.augment.affine import affine_view as affine_view
from isojax.data.augment.blur import gaussian_blur as gaussian_blur
from isojax.data.augment.colour import adjust_brightness as adjust_brightness
from isojax.data.augment.colour import adjust_contrast as adjust_contrast
from isojax.data.augment.colour import adjust_hue as adjust_hue
from isojax.data.augment.colour import adjust_saturation as adjust_saturation
from isojax.data.augment.colour import rgb_to_grayscale as rgb_to_grayscale
from isojax.data.augment.colour import solarize as solarize
from isojax.data.augment.crop import random_crop_box as random_crop_box
from isojax.data.augment.crop import resized_crop as resized_crop
from isojax.data.augment.simclr import SimclrSettings as SimclrSettings
from isojax.data.augment.simclr import simclr_view as simclr_view
from isojax.data.augment.simclr import simclr_views as simclr_views
from isojax.data.augment.views import KINDS as KINDS
from isojax.data.augment.views import ViewSettings as ViewSettings
from isojax.data.augment.views import normalize as normalize
from isojax.data.augment.views import random_views as random_views
