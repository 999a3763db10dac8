"""Non-contrastive self-supervised learning with closed-form predictors, in JAX.

The parts are imported when they are first used:

- `isojax.losses`, `isojax.predictor`, `isojax.spectral`, `isojax.schedules`: the
  mathematics, as pure functions of arrays;
- `isojax.dynamics`: how representations and eigenvalues evolve during learning;
- `isojax.models`, `isojax.data`: networks, image sets and augmentation;
- `isojax.training`, `isojax.evaluation`: `pretrain`, `load_encoder`, `evaluate_run`;
- `isojax.interop`: weights of and for other libraries.
"""

import importlib
from types import ModuleType

__version__ = "0.1.0"

_PARTS = (
    "data",
    "dynamics",
    "evaluation",
    "interop",
    "losses",
    "models",
    "predictor",
    "schedules",
    "spectral",
    "training",
)


def __getattr__(name: str) -> ModuleType:
    if name in _PARTS:
        return importlib.import_module(f"isojax.{name}")
    raise AttributeError(f"module 'isojax' has no attribute {name!r}")


def __dir__() -> list[str]:
    return [*globals(), *_PARTS]
