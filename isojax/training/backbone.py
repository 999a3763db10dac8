"""The backbone of a run: one of isojax's, or a module that the user passes."""

import os

import flax.linen as nn
from ml_collections import ConfigDict

from isojax.errors import UsageError
from isojax.fields import has_own_backbone
from isojax.models import describe_module


def with_own_backbone(config: ConfigDict, backbone: nn.Module | None) -> ConfigDict:
    """Returns the config of a run with the given backbone.

    Args:
      config: the run's configuration, which is not changed.
      backbone: the user's module; None for the backbone that the config names.

    Returns:
      The config, or a copy in which `model.backbone` is the module's description.

    Raises:
      UsageError: if the config describes a module and none is given, or `backbone` is
        not a module.
    """
    if backbone is not None:
        config = config.copy_and_resolve_references()
        config.model.backbone = describe_module(backbone)
    elif has_own_backbone(config):
        raise UsageError(
            f"config.model.backbone={config.model.backbone} is a module that is not "
            "part of isojax; pass it as backbone= to pretrain"
        )
    return config


def check_stored_backbone(
    workdir: str | os.PathLike, config: ConfigDict, backbone: nn.Module | None
) -> None:
    """Checks that a module is the one that a run was trained with.

    Args:
      workdir: the run's folder.
      config: the run's configuration.
      backbone: the user's module, or None.

    Raises:
      UsageError: if the run was trained with another backbone.
    """
    stored = config.model.backbone
    trained = f"the run in {workdir} was trained with the backbone {stored}"
    if backbone is None:
        if has_own_backbone(config):
            raise UsageError(
                f"{trained}, which is not part of isojax; use Python and pass the "
                "module as backbone="
            )
        return
    given = describe_module(backbone)
    if not has_own_backbone(config):
        raise UsageError(f"{trained}, not {given}; leave out backbone=")
    if given != stored:
        raise UsageError(f"{trained}, not {given}; pass the same module as backbone=")
