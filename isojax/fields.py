"""Names and values of config fields, and rules for when a field has an effect.

Imports no JAX.
"""

from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any, NamedTuple

from ml_collections import ConfigDict

from isojax.errors import UsageError

# Values of data.name for images that are not a named data set.
ARRAYS = "arrays"  # passed from Python
FOLDER = "folder"  # read from data.folder
# Fields that training adds for such images, to recognise them when a run resumes.
IMAGES_CHECKSUM, LABELS_CHECKSUM = "data.images_checksum", "data.labels_checksum"


def field_names(config: ConfigDict, prefix: str = "") -> Iterator[str]:
    """Yields the dotted name of every field of a config, sections included."""
    for name, value in config.items():
        yield prefix + name
        if isinstance(value, ConfigDict):
            yield from field_names(value, f"{prefix}{name}.")


def field_values(config: ConfigDict, prefix: str = "") -> dict[str, Any]:
    """Returns the values of a config's fields by dotted name, without sections."""
    values: dict[str, Any] = {}
    for name, value in config.items():
        if isinstance(value, ConfigDict):
            values |= field_values(value, f"{prefix}{name}.")
        else:
            values[prefix + name] = value
    return values


def data_name(data: Mapping[str, Any]) -> str:
    """Returns a short name of a run's images, for messages and file names.

    Args:
      data: section `data` of a config.
    """
    folder = data.get("folder")
    return (folder and Path(folder).name) or data["name"]


class Effect(NamedTuple):
    """When a field has an effect.

    Attributes:
      acts: returns whether the field changes the result of a run with this config.
      condition: the condition in words, with the fields that decide it.
    """

    acts: Callable[[ConfigDict], bool]
    condition: str


def _any_view(config: ConfigDict, name: str) -> bool:
    """Returns whether a probability is above 0 in one of the two views.

    A missing field counts as 1; a later check reports it.
    """
    first = config.augment.get(name, 1.0)
    return max(first, config.augment_view2.get(name, first)) > 0


def has_own_backbone(config: ConfigDict) -> bool:
    """Returns whether a run's backbone is a module that was handed to `pretrain`.

    `config.model.backbone` is then its description, such as "ConvNet(width=8)".
    """
    return config.model.backbone.endswith(")")


_RESNET = Effect(
    lambda config: config.model.backbone.startswith("resnet"),
    "it applies only to ResNets, such as config.model.backbone=resnet18",
)
_VIT = Effect(
    lambda config: config.model.backbone.startswith("vit_"),
    "it applies only to vision transformers, such as config.model.backbone=vit_tiny",
)
_CLOSED_FORM = Effect(
    lambda config: config.method.predictor == "directpred",
    "it applies only to config.method.predictor=directpred",
)
_LARS = Effect(
    lambda config: config.optimizer.name == "lars",
    "it applies only to config.optimizer.name=lars",
)
_JITTER = Effect(
    lambda config: (
        config.augment.kind != "simclr" or _any_view(config, "jitter_probability")
    ),
    "it applies only if config.augment.jitter_probability is above 0",
)
# Fields that have no effect in some runs. All other fields always have an effect.
EFFECTS = {
    "method.alpha": _CLOSED_FORM,
    "method.normalize": _CLOSED_FORM,
    "method.epsilon": Effect(
        lambda config: _CLOSED_FORM.acts(config) and config.method.normalize,
        "it applies only to config.method.predictor=directpred with "
        "config.method.normalize=True",
    ),
    "method.target_decay": Effect(
        lambda config: config.method.target == "ema",
        "it applies only to config.method.target=ema",
    ),
    "remat": Effect(
        lambda config: not has_own_backbone(config),
        "it applies only to the backbones of isojax; use flax.linen.remat in your own",
    ),
    "model.width": _RESNET,
    "model.kernel_size": _RESNET,
    "model.stride": _RESNET,
    "model.padding": _RESNET,
    "model.max_pool": _RESNET,
    "model.patch_size": _VIT,
    "model.predictor_hidden_dim": Effect(
        lambda config: config.method.predictor == "mlp",
        "it applies only to config.method.predictor=mlp",
    ),
    "optimizer.trust_coefficient": _LARS,
    "optimizer.clip_trust_ratio": _LARS,
    "optimizer.warmup_start": Effect(
        lambda config: config.optimizer.warmup_epochs > 0,
        "it applies only if config.optimizer.warmup_epochs is above 0",
    ),
    "data.name": Effect(
        lambda config: not config.data.folder,
        "the images of config.data.folder replace those of config.data.name",
    ),
    "data.evaluation_split": Effect(
        lambda config: config.data.validation_fraction == 0,
        "images held out by config.data.validation_fraction replace that split",
    ),
    "data.feed": Effect(
        lambda config: not config.data.streaming,
        "images that are decoded while training are sent batch by batch",
    ),
    "data.classes": Effect(
        lambda config: bool(config.data.folder) or config.data.streaming,
        "it applies only to the images of config.data.folder, and to streamed images",
    ),
    "augment.brightness": _JITTER,
    "augment.contrast": _JITTER,
    "augment.saturation": _JITTER,
    "augment.hue": _JITTER,
    "augment.blur_sigma": Effect(
        lambda config: _any_view(config, "blur_probability"),
        "it applies only if config.augment.blur_probability is above 0",
    ),
    "augment.crop_ratio": Effect(
        lambda config: (
            config.augment.kind != "affine"
            or tuple(config.augment.crop_scale) != (1.0, 1.0)
        ),
        "affine views are cropped only if config.augment.crop_scale is not (1, 1)",
    ),
}


def no_effect_reason(config: ConfigDict, name: str) -> str | None:
    """Returns the reason why a field has no effect, or None if it has one."""
    effect = EFFECTS.get(name)
    return None if effect is None or effect.acts(config) else effect.condition


def changed_fields(
    config: ConfigDict, default: ConfigDict, overrides: Mapping[str, Any]
) -> dict[str, str | None]:
    """Returns the overridden fields that differ from their default.

    Args:
      config: the configuration with the overrides.
      default: the configuration without them.
      overrides: values by dotted name.

    Returns:
      For each such field, the reason why it has no effect, or None if it has one.
    """
    before = field_values(default)
    return {
        name: no_effect_reason(config, name)
        for name, value in overrides.items()
        if before.get(name) != value
    }


def check_effects(
    config: ConfigDict, default: ConfigDict, overrides: Mapping[str, Any]
) -> None:
    """Checks that every overridden field has an effect, or keeps its default.

    Args:
      config: the configuration with the overrides.
      default: the configuration without them.
      overrides: values by dotted name.

    Raises:
      UsageError: if a field has no effect. The message states when it has one.
    """
    for name, reason in changed_fields(config, default, overrides).items():
        if reason is not None:
            raise UsageError(
                f"--config.{name}={overrides[name]} has no effect here: {reason}"
            )


def complete_data(
    config: ConfigDict, default: ConfigDict, overrides: Mapping[str, Any]
) -> None:
    """Sets mean and std to None if the overrides select another data set or a folder.

    The values in the config file belong to its own data set; those of a config for any
    folder, such as `imagenet`, belong to all images. Training replaces None by the
    statistics of the training images. For a folder, the name becomes `FOLDER`.

    Args:
      config: the configuration with the overrides; changed in place.
      default: the configuration without them.
      overrides: values by dotted name.
    """
    if config.data.folder:
        config.data.name = FOLDER
    if default.data.name in (config.data.name, FOLDER):
        return
    for name in ("mean", "std"):
        if f"data.{name}" not in overrides:
            config.data[name] = None
