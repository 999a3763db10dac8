"""Every field of a run, with its reason. The other configs change a few of them.

Presets, written as `--config=configs/NAME.py:PRESET`: byol, simsiam, directpred,
directcopy, isoloss (the cosine metric) and isoloss_euclidean. Each may end in _ema or
_noema, for a target that is a moving average of the online network or the online
network itself. Without either, simsiam uses the online network and the others a moving
average.

For the data sets of the paper each may begin with `official_`, and `official` alone is
official_isoloss: the recipe of the authors' code instead of the paper's. It differs in

  batch          256 instead of 512
  optimiser      with a moving average LARS (learning rate 1, trust coefficient 0.02,
                 clipped; biases and BatchNorm neither adapted nor decayed), without one
                 SGD at 0.1; warmup from 3e-5 instead of 0
  weight decay   1e-5 with an MLP predictor and 1e-4 otherwise, instead of 4e-4
  target         tau_0 = 0.99 instead of 0.996
  correlation    decay 0.998 with a moving average and 0.5 without, instead of 0.3;
                 eigenvalues divided by the largest
  loss           twice as large
  views          brightness 0.4, contrast 0.4, saturation 0.2 and hue 0.1 on every data
                 set; the second view is solarised with probability 0.2; on STL-10 the
                 first view is always blurred and the second with probability 0.1
  stem           on CIFAR padded by 2 instead of 1; on TinyImageNet 7x7 of stride 2
                 instead of 3x3
  normalisation  STL-10 by other numbers, TinyImageNet by ImageNet's

Not replicated of the authors' code:

  half precision     float32 here; --config.precision=bfloat16 is the nearest
  learning rate      they multiply it by the batch over 256; do so by hand with another
                     batch
  correlation        they update it once a view, and during validation too; here it is
                     updated once a step, in training only
  blur               they use Pillow's approximation; here the kernel is Gaussian and
                     about a tenth of the image's side. The flip, which they apply last,
                     comes first here; the views are the same.
  linear evaluation  as with the paper's recipe (isojax/evaluation)
  other data sets    ImageNet, ImageNet-100 and image folders
"""

from ml_collections import ConfigDict
from ml_collections.config_dict import placeholder

from isojax.errors import UsageError

PRESETS = {
    "byol": {"metric": "cosine", "form": "standard", "predictor": "mlp"},
    # With the paper's heads SimSiam is BYOL without the moving average.
    "simsiam": {"metric": "cosine", "form": "standard", "predictor": "mlp"},
    "directpred": {"metric": "cosine", "form": "standard", "predictor": "directpred"},
    "directcopy": {
        "metric": "cosine",
        "form": "standard",
        "predictor": "directpred",
        "alpha": 1.0,
        "epsilon": 0.25,
        "normalize": True,
    },
    "isoloss": {"metric": "cosine", "form": "iso", "predictor": "directpred"},
    "isoloss_euclidean": {
        "metric": "euclidean",
        "form": "iso",
        "predictor": "directpred",
    },
}
DEFAULT_PRESET = "isoloss"
OFFICIAL = "official"


def get_config(preset: str = DEFAULT_PRESET) -> ConfigDict:
    """All fields, with the paper's recipe (Halvagal et al. 2023, appendix D)."""
    config = ConfigDict()
    config.preset = preset or DEFAULT_PRESET  # as given after the file
    config.seed = 0  # of parameters, views and the order of images
    config.epochs = 1000  # passes over the images of data.pretrain_split
    config.steps = 0  # if positive, stops after so many, on the schedule of the epochs
    config.batch_size = 512  # over all devices
    # What the network computes in: float32, or bfloat16. Parameters, statistics, losses
    # and the correlation are float32 always.
    config.precision = "float32"
    # Saves memory where a batch does not fit: activations are computed again in the
    # backward pass. The same numbers, for a third more time.
    config.remat = False
    # Saves memory too: a device's batch is trained in so many parts, one after the
    # other. That changes the numbers: each part is normalised by its own statistics
    # (isojax/training/microbatches.py).
    config.microbatches = 1
    config.checkpoint_every_epochs = 10  # and one at the end
    config.on_collapse = "warn"  # or "stop", which ends the run

    config.checkpoint = ConfigDict()
    config.checkpoint.keep_last = 2  # two, so that a damaged one costs one interval
    # Those of every so many epochs are kept for good, to look back at; 0 for none.
    config.checkpoint.keep_every_epochs = 0

    # metrics.jsonl and spectrum.npz are always written; docs/metrics.md says what is
    # in them. A run may resume with other settings of these.
    config.logging = ConfigDict()
    # Weights & Biases: "off", "online", or "offline", to be sent later by wandb sync.
    config.logging.wandb = "off"
    # "auto" writes for TensorBoard where tensorboardX is installed; or "on", "off".
    config.logging.tensorboard = "auto"
    # Follow each mode from epoch to epoch by its eigenvector, in spectrum.npz.
    config.logging.tracked_modes = True

    config.method = _method(config.preset)

    config.model = ConfigDict()  # ResNet-18 and its heads
    config.model.width = 64  # channels of the first stage
    config.model.kernel_size = 3  # of the first convolution
    config.model.stride = 1  # of the first convolution
    # Zeros around the images for the first convolution; None is half the kernel.
    config.model.padding = placeholder(int)
    config.model.max_pool = False  # after the first convolution
    config.model.hidden_dim = 4096  # of the projector
    config.model.projection_dim = 256  # M, of the projections
    config.model.predictor_hidden_dim = 4096  # of an MLP predictor

    config.optimizer = ConfigDict()  # linear warmup, cosine decay to 0
    config.optimizer.name = "sgd"  # or "lars"
    config.optimizer.learning_rate = 0.1  # the largest, at the end of the warmup
    config.optimizer.momentum = 0.9  # part of the old direction kept at a step
    config.optimizer.weight_decay = 4e-4  # SGD: on every parameter, as PyTorch's
    config.optimizer.trust_coefficient = 0.02  # of LARS
    config.optimizer.warmup_epochs = 10.0  # of a rising rate; may be a fraction
    config.optimizer.warmup_start = 0.0  # learning rate at the first step

    config.data = ConfigDict()
    # digits, which come with isojax, tiny_imagenet, or a name that tensorflow-datasets
    # has for a set of labelled images, such as cifar10.
    config.data.name = "digits"
    # Side of the square images. Others are resized by their shorter side and cropped.
    config.data.resolution = 28
    # Splits of the set, in the notation of tensorflow-datasets: + joins them.
    config.data.pretrain_split = "train"  # may hold images without labels
    config.data.train_split = "train"  # for the readout; all labelled
    config.data.evaluation_split = "test"  # for accuracies; all labelled
    # This part of each class of train_split is kept from both trainings and stands in
    # for evaluation_split, so that settings can be chosen without looking at that.
    config.data.validation_fraction = 0.0
    # Where the images are while training: "device", in the memory of every device;
    # "host", sent from there batch by batch; "auto" chooses by size.
    config.data.feed = "auto"
    # Of each channel, in [0, 1]. None, as after --config.data.name=NAME alone, is
    # computed from the training images.
    config.data.mean = (0.1307,)
    config.data.std = (0.3081,)  # of each channel, or None

    config.augment = ConfigDict()
    config.augment_view2 = ConfigDict()  # fields of `augment` that view 2 has otherwise
    if is_official(config):
        _use_official_recipe(config)
    return config


def is_official(config: ConfigDict) -> bool:
    """Whether the preset is the recipe of the authors' code."""
    return config.preset.startswith(OFFICIAL)


def set_simclr_augmentation(
    config: ConfigDict, *, strength: float, blur_probability: float
) -> None:
    """Sets SimCLR's views, or those of the authors' code.

    Args:
      config: the configuration, changed in place.
      strength: factor of the colour jitter; 1 is SimCLR's. The authors' code has one
        jitter for all data sets.
      blur_probability: probability of a blurred view.
    """
    augment = config.augment
    augment.kind = "simclr"  # or "affine", of the digits
    augment.crop_scale = (0.08, 1.0)  # smallest and largest area of the crop
    augment.crop_ratio = (3 / 4, 4 / 3)  # its width over its height
    augment.flip_probability = 0.5  # left to right
    augment.jitter_probability = 0.8  # of the next four, in random order
    augment.brightness = 0.8 * strength  # largest deviation of the factor from 1
    augment.contrast = 0.8 * strength  # as brightness
    augment.saturation = 0.8 * strength  # as brightness
    augment.hue = 0.2 * strength  # largest shift, part of the colour circle
    augment.grayscale_probability = 0.2  # of a view without colour
    augment.blur_probability = blur_probability  # of a blurred view
    augment.blur_sigma = (0.1, 2.0)  # smallest and largest, pixels
    augment.solarize_probability = 0.0  # inverts values above 0.5
    config.augment_view2.solarize_probability = 0.0  # of view 2
    if is_official(config):
        augment.update(brightness=0.4, contrast=0.4, saturation=0.2, hue=0.1)
        config.augment_view2.solarize_probability = 0.2


def _use_official_recipe(config: ConfigDict) -> None:
    has_ema = config.method.target == "ema"
    config.batch_size = 256
    config.method.loss_scale = 2.0
    config.method.target_decay = 0.99
    config.method.correlation_decay = 0.998 if has_ema else 0.5
    config.method.normalize = True
    config.optimizer.name = "lars" if has_ema else "sgd"
    config.optimizer.learning_rate = 1.0 if has_ema else 0.1
    config.optimizer.weight_decay = 1e-5 if config.method.predictor == "mlp" else 1e-4
    config.optimizer.warmup_start = 3e-5


def _method(preset: str) -> ConfigDict:
    if preset == OFFICIAL:
        preset = f"{OFFICIAL}_{DEFAULT_PRESET}"
    preset = preset.removeprefix(f"{OFFICIAL}_")
    name = preset.removesuffix("_ema").removesuffix("_noema")
    if name not in PRESETS:
        raise UsageError(
            f"there is no preset {preset!r}; choose one of {', '.join(PRESETS)}, and "
            "add _ema or _noema to choose the target"
        )
    method = ConfigDict()
    online = preset.endswith("_noema") or preset == "simsiam"
    method.target = "online" if online else "ema"
    method.target_decay = 0.996  # τ0; grows to 1 along a cosine
    method.stop_gradient = True  # on the target
    method.loss_scale = 1.0  # factor of the loss
    method.correlation_decay = 0.3  # part of the old correlation kept at a step
    # Of the closed-form predictor: here DirectPred's; DirectCopy has 1, 0.25 and True.
    method.alpha = 0.5  # exponent of the eigenvalues
    method.epsilon = 0.0  # added to normalised eigenvalues
    method.normalize = False  # divide the eigenvalues by the largest
    method.update(PRESETS[name])
    return method
