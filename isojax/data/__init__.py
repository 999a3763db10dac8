"""Image sets in host memory, batches, and augmentation on the device."""

from isojax.data.arrays import from_arrays as from_arrays
from isojax.data.batches import epoch_order as epoch_order
from isojax.data.batches import full_batches as full_batches
from isojax.data.batches import training_batches as training_batches
from isojax.data.dataset import HELD_OUT_FRACTION as HELD_OUT_FRACTION
from isojax.data.dataset import Dataset as Dataset
from isojax.data.dataset import Split as Split
from isojax.data.dataset import (
    check_validation_fraction as check_validation_fraction,
)
from isojax.data.dataset import hold_out as hold_out
from isojax.data.sources import ImageSource as ImageSource
from isojax.data.sources import from_folder as from_folder
from isojax.data.sources import load_dataset as load_dataset
from isojax.data.statistics import channel_statistics as channel_statistics
