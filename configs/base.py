"""Every field of a run, with its reason. The other configs change a few of them.

Presets, written as `--config=configs/NAME.py:PRESET`: byol, simsiam, directpred,
directcopy, isoloss (the cosine metric) and isoloss_euclidean. Each may be followed by
_ema or _noema, for a target that is a moving average of the online network or the
online network itself; without either, simsiam has none and the others have one.
"""

from ml_collections import ConfigDict

from isojax.errors import UsageError

PRESETS = {
    "byol": {"metric": "cosine", "form": "standard", "predictor": "mlp"},
    # With the paper's heads SimSiam is BYOL without the moving average.
    "simsiam": {"metric": "cosine", "form": "standard", "predictor": "mlp"},
    "directpred": {"metric": "cosine", "form": "standard", "predictor": "directpred"},
    "directcopy": {"metric": "cosine", "form": "standard", "predictor": "directcopy"},
    "isoloss": {"metric": "cosine", "form": "iso", "predictor": "directpred"},
    "isoloss_euclidean": {
        "metric": "euclidean",
        "form": "iso",
        "predictor": "directpred",
    },
}
DEFAULT_PRESET = "isoloss"


def get_config(preset: str = DEFAULT_PRESET) -> ConfigDict:
    """All fields, with the paper's recipe (Halvagal et al. 2023, appendix D)."""
    config = ConfigDict()
    config.preset = preset or DEFAULT_PRESET
    config.seed = 0  # of parameters, views and the order of images
    config.epochs = 1000
    config.batch_size = 512  # over all devices
    config.checkpoint_every_epochs = 10

    config.checkpoint = ConfigDict()
    config.checkpoint.keep_last = 2  # so that a damaged one costs one interval
    # Those of every so many epochs are kept for good, to look back at; 0 for none.
    config.checkpoint.keep_every_epochs = 0

    config.method = _method(config.preset)

    config.model = ConfigDict()  # ResNet-18 and its heads
    config.model.width = 64  # channels of the first stage
    config.model.kernel_size = 3  # of the first convolution
    config.model.stride = 1  # of the first convolution
    config.model.max_pool = False  # after the first convolution
    config.model.hidden_dim = 4096  # of the projector
    config.model.projection_dim = 256
    config.model.predictor_hidden_dim = 4096  # of an MLP predictor

    config.optimizer = ConfigDict()  # SGD; linear warmup from 0, cosine decay to 0
    config.optimizer.learning_rate = 0.1
    config.optimizer.momentum = 0.9
    config.optimizer.weight_decay = 4e-4  # on every parameter, as PyTorch's SGD
    config.optimizer.warmup_epochs = 10.0

    config.data = ConfigDict()
    config.data.name = "digits"
    # This part of the training images is kept from training and stands in for the test
    # images, so that settings can be chosen without looking at those.
    config.data.validation_fraction = 0.0
    config.data.mean = (0.1307,)  # of each channel, in [0, 1]
    config.data.std = (0.3081,)

    config.augment = ConfigDict()
    return config


def _method(preset: str) -> ConfigDict:
    name = preset.removesuffix("_ema").removesuffix("_noema")
    if name not in PRESETS:
        raise UsageError(
            f"there is no preset {preset!r}; choose one of {', '.join(PRESETS)}, and "
            "add _ema or _noema to choose the target"
        )
    method = ConfigDict(PRESETS[name])
    online = preset.endswith("_noema") or preset == "simsiam"
    method.target = "online" if online else "ema"
    method.target_decay = 0.996  # τ0; grows to 1 along a cosine
    method.stop_gradient = True  # on the target
    method.correlation_decay = 0.3  # part of the old correlation kept at a step
    # The next three are DirectPred's; DirectCopy has 1, 0.25 and True.
    method.alpha = 0.5  # exponent of the eigenvalues
    method.epsilon = 0.0  # added to normalised eigenvalues
    method.normalize = False  # divide the eigenvalues by the largest
    return method
