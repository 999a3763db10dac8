"""Packaged configs, selected by name: `--config=cifar10:byol`.

`base` defines all fields with their reasons; the other modules change a few of them.
"""

import pkgutil


def config_names() -> list[str]:
    """Names of the configs that describe a run, in alphabetical order."""
    names = {module.name for module in pkgutil.iter_modules(__path__)}
    return sorted(names - {"base"})
