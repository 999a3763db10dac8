"""Configs that come with isojax, by name: `--config=cifar10:byol`.

`base` has every field with its reason; the other modules change a few of them.
"""

import pkgutil


def config_names() -> list[str]:
    """Names of the configs that can be trained with, in alphabetical order."""
    names = {module.name for module in pkgutil.iter_modules(__path__)}
    return sorted(names - {"base"})
