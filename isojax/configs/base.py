"""All fields of a run with their reasons. The other configs change a few of them.

The presets, selected by `--config=NAME:PRESET`, are byol, simsiam,
directpred, directcopy, isoloss (the cosine metric) and isoloss_euclidean. The suffix
_ema selects a moving average of the online network as the target, the suffix _noema the
online network itself. Without a suffix simsiam uses the online network and the other
presets use a moving average.

For the data sets of the paper, the prefix `official_` selects the recipe of the
authors' code instead of the paper's; `official` alone means official_isoloss. The same
prefix of imagenet and imagenet100 is described in `isojax/configs/imagenet.py`. The
recipe differs in

  batch          256 instead of 512
  optimiser      with a moving average LARS (learning rate 1, trust coefficient 0.02,
                 clipped; biases and BatchNorm neither adapted nor decayed), otherwise
                 SGD at 0.1; warmup from 3e-5 instead of 0
  weight decay   1e-5 with an MLP predictor and 1e-4 otherwise, instead of 4e-4
  target         tau_0 = 0.99 instead of 0.996
  correlation    decay 0.998 with a moving average and 0.5 without, instead of 0.3;
                 eigenvalues divided by the largest
  loss           twice as large
  views          brightness 0.4, contrast 0.4, saturation 0.2 and hue 0.1 on every data
                 set; the second view is solarised with probability 0.2; on STL-10 the
                 first view is always blurred and the second with probability 0.1
  stem           padding 2 instead of 1 on CIFAR; 7x7 with stride 2 instead of 3x3 on
                 TinyImageNet
  normalisation  other values for STL-10, ImageNet's values for TinyImageNet

The following parts of the authors' code are not replicated:

  half precision     float32 here; --config.precision=bfloat16 is the closest option
  learning rate      they multiply it by batch size / 256; set it accordingly for other
                     batch sizes
  correlation        they update it once per view, also during validation; here it is
                     updated once per step, in training only
  blur               they use Pillow's approximation; here the kernel is Gaussian, with
                     about a tenth of the image side. They flip last, isojax flips
                     first; the views are the same.
  linear evaluation  as with the paper's recipe (isojax/evaluation)

For ImageNet and ImageNet-100, isojax/configs/imagenet.py lists what differs further.
"""

from ml_collections import ConfigDict
from ml_collections.config_dict import placeholder

from isojax.errors import UsageError

PRESETS = {
    "byol": {"metric": "cosine", "form": "standard", "predictor": "mlp"},
    # With the paper's heads, SimSiam is BYOL without the moving average.
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
    """Returns all fields with the paper's recipe (Halvagal et al. 2023, appendix D)."""
    config = ConfigDict()
    config.preset = preset or DEFAULT_PRESET  # as selected after the config's name
    config.seed = 0  # seed of parameters, views and the order of images
    config.epochs = 1000  # passes over the images of data.pretrain_split
    config.steps = 0  # if positive, stop after this many steps of the same schedule
    config.batch_size = 512  # images per step, over all devices
    # Type of the network's computation: float32, in which GPUs and TPUs multiply with
    # their default precision, or bfloat16. Parameters, statistics, losses and the
    # correlation are always float32, in full precision.
    config.precision = "float32"
    # Saves memory: recompute activations in the backward pass. The numbers stay the
    # same and a step takes a third longer.
    config.remat = False
    # Saves memory: process a device's batch in this many parts, one after the other.
    # This changes the numbers, because each part is normalised by its own statistics
    # (isojax/training/microbatches.py).
    config.microbatches = 1
    config.checkpoint_every_epochs = 10  # epochs between checkpoints; also at the end
    # Epochs between evaluations on data.evaluation_split, for the metrics eval/...; the
    # last epoch is always evaluated.
    config.evaluate_every_epochs = 1
    config.on_collapse = "warn"  # "warn", or "stop" to end a collapsed run

    config.checkpoint = ConfigDict()
    config.checkpoint.keep_last = 2  # number of newest checkpoints to keep
    # Keep a checkpoint permanently every this many epochs; 0 for none.
    config.checkpoint.keep_every_epochs = 0

    # Metric writers in addition to metrics.jsonl and spectrum.npz, which are described
    # in docs/metrics.md. A run may resume with other settings of this section.
    config.logging = ConfigDict()
    # Weights & Biases: "off", "online", or "offline" to upload later with wandb sync.
    config.logging.wandb = "off"
    # TensorBoard: "on", "off", or "auto", which means on if tensorboardX is installed.
    config.logging.tensorboard = "auto"
    # Follow each mode from epoch to epoch, in spectrum.npz.
    config.logging.tracked_modes = True
    # Measure LiDAR at each evaluation, from two views of 1,000 pretraining images.
    config.logging.lidar = True

    config.method = _method(config.preset)

    config.model = ConfigDict()  # the backbone and its heads
    # resnet18, resnet34, resnet50, vit_tiny or vit_small. A run with a backbone of
    # one's own (docs/own_data_and_network.md) records its description here.
    config.model.backbone = "resnet18"
    config.model.width = 64  # ResNets: channels of the first stage
    config.model.kernel_size = 3  # ResNets: side of the first convolution
    config.model.stride = 1  # ResNets: stride of the first convolution
    # ResNets: zeros around the images for the first convolution; None is
    # (kernel_size - 1) / 2.
    config.model.padding = placeholder(int)
    config.model.max_pool = False  # ResNets: a max-pool follows the first convolution
    # Vision transformers: side of a patch in pixels, a divisor of data.resolution.
    config.model.patch_size = 4
    config.model.hidden_dim = 4096  # width of the projector's hidden layer
    config.model.projection_dim = 256  # dimension M of the projections
    config.model.predictor_hidden_dim = 4096  # hidden width of an MLP predictor

    config.optimizer = ConfigDict()  # linear warmup, cosine decay to 0
    config.optimizer.name = "sgd"  # "sgd", "lars" or "adamw"
    config.optimizer.learning_rate = 0.1  # maximum, at the end of the warmup
    # Fraction of the old update kept at a step; with AdamW beta1.
    config.optimizer.momentum = 0.9
    # SGD decays all parameters, as PyTorch does; LARS and AdamW exclude the biases and
    # the parameters of normalisation layers.
    config.optimizer.weight_decay = 4e-4
    config.optimizer.trust_coefficient = 0.02  # LARS: trust coefficient eta
    config.optimizer.clip_trust_ratio = True  # LARS: local rate <= learning_rate
    config.optimizer.warmup_epochs = 10.0  # epochs of warmup, whole or fractional
    config.optimizer.warmup_start = 0.0  # learning rate at the first step

    config.data = ConfigDict()
    # Data set: digits (part of isojax), tiny_imagenet, or a set of labelled images of
    # tensorflow-datasets, such as cifar10. "arrays" for images passed from Python.
    config.data.name = "digits"
    # Folder of images that replaces the data set: SPLIT/CLASS/*.jpg, or SPLIT/*.jpg
    # without labels.
    config.data.folder = ""
    # Side of the square images. Other images are resized and cropped to it.
    config.data.resolution = 28
    # Splits in the notation of tensorflow-datasets, where + joins splits.
    config.data.pretrain_split = "train"  # for pretraining; labels are not needed
    config.data.train_split = "train"  # for the readout; all images need labels
    config.data.evaluation_split = "test"  # for accuracies; all images need labels
    # Fraction of each class of train_split that is held out of both trainings and
    # replaces evaluation_split, to choose settings without using the test set.
    config.data.validation_fraction = 0.0
    # Where images are kept during training: "device" in the memory of every device,
    # "host" to send them batch by batch, or "auto" to choose by size.
    config.data.feed = "auto"
    # Decode the images while training, instead of once for all: for sets that are too
    # large for the memory. Random crops are then cut from the original images. These
    # are a folder, or a data set prepared in the format array_record.
    config.data.streaming = False
    # File with the names of the classes to use, one a line; "" for all. For folders and
    # with streaming.
    config.data.classes = ""
    # Mean of each channel, in [0, 1]. None, the default after --config.data.name=NAME,
    # means computed from the training images.
    config.data.mean = (0.1307,)
    config.data.std = (0.3081,)  # standard deviation of each channel, or None

    config.augment = ConfigDict()
    config.augment_view2 = ConfigDict()  # fields of `augment` that differ in view 2
    if is_official(config):
        _use_official_recipe(config)
    return config


def is_official(config: ConfigDict) -> bool:
    """Returns whether the preset is a recipe of the authors' code."""
    return config.preset.startswith(OFFICIAL)


def refuse_official(config: ConfigDict, data_set: str) -> None:
    """Refuses a preset of the authors' code for a data set that they have not used.

    Raises:
      UsageError: if the preset is official. The message names the data sets.
    """
    if is_official(config):
        raise UsageError(
            f"there is no preset {config.preset!r} for {data_set}; the official "
            "recipe exists for cifar10, cifar100, stl10, tinyimagenet, imagenet and "
            "imagenet100"
        )


def set_simclr_augmentation(
    config: ConfigDict, *, strength: float, blur_probability: float
) -> None:
    """Sets SimCLR's views, or those of the authors' code if the preset is official.

    Args:
      config: the configuration, changed in place.
      strength: factor of the colour jitter; 1 is SimCLR's. Not used with an official
        preset, whose jitter is the same for all data sets.
      blur_probability: probability of a blurred view.
    """
    augment = config.augment
    augment.kind = "simclr"  # "simclr", or "affine" for drawings
    augment.crop_scale = (0.08, 1.0)  # smallest and largest area of the crop
    augment.crop_ratio = (3 / 4, 4 / 3)  # smallest and largest width over height
    augment.flip_probability = 0.5  # probability of mirroring left to right
    augment.jitter_probability = 0.8  # probability of the next four, in random order
    augment.brightness = 0.8 * strength  # largest deviation of the factor from 1
    augment.contrast = 0.8 * strength  # as brightness
    augment.saturation = 0.8 * strength  # as brightness
    augment.hue = 0.2 * strength  # largest shift, fraction of the colour circle
    augment.grayscale_probability = 0.2  # probability of removing colour
    augment.blur_probability = blur_probability  # probability of Gaussian blur
    augment.blur_sigma = (0.1, 2.0)  # smallest and largest deviation, pixels
    augment.solarize_probability = 0.0  # probability of inverting values above 0.5
    config.augment_view2.solarize_probability = 0.0  # the same for view 2
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
            f"there is no preset {preset!r}; choose one of {', '.join(PRESETS)}, with "
            "the suffix _ema or _noema to select the target"
        )
    method = ConfigDict()
    online = preset.endswith("_noema") or preset == "simsiam"
    method.target = "online" if online else "ema"
    method.target_decay = 0.996  # initial tau_0; increases to 1 along a cosine
    method.stop_gradient = True  # whether the gradient on the target is stopped
    method.loss_scale = 1.0  # factor of the loss
    method.correlation_decay = 0.3  # fraction of the old correlation kept at a step
    # The closed-form predictor: DirectPred here; DirectCopy uses 1, 0.25 and True.
    method.alpha = 0.5  # exponent of the eigenvalues
    method.epsilon = 0.0  # shift of the normalised eigenvalues
    method.normalize = False  # whether to divide the eigenvalues by the largest
    method.update(PRESETS[name])
    return method


def set_narrow_recipe(config: ConfigDict) -> None:
    """Sets a method, network and learning rate that train in minutes on a CPU.

    A run of a few thousand steps needs a target that changes faster than the paper's.

    Args:
      config: the configuration, changed in place.
    """
    config.batch_size = 64
    config.method.target_decay = 0.98
    config.method.correlation_decay = 0.9
    config.method.normalize = True
    config.model.width = 16
    config.model.hidden_dim = 512
    config.model.projection_dim = 64
    config.model.predictor_hidden_dim = 512
    # Without a moving average the target changes as fast as the network.
    online = config.method.target == "online"
    config.optimizer.learning_rate = 0.05 if online else 0.1
