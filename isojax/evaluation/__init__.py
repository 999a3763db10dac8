"""Evaluation of a run's encoder.

The parts are imported when they are first used: `isojax evaluate --help` reads the
names of the protocols without JAX.
"""

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from isojax.evaluation.evaluate import evaluate_run as evaluate_run
    from isojax.evaluation.features import extract_features as extract_features
    from isojax.evaluation.finetuning import finetune as finetune
    from isojax.evaluation.knn import knn_accuracy as knn_accuracy
    from isojax.evaluation.linear import LinearReadout as LinearReadout
    from isojax.evaluation.linear import fit_linear_readout as fit_linear_readout
    from isojax.evaluation.options import Options as Options

_MODULES = {
    "LinearReadout": "linear",
    "Options": "options",
    "evaluate_run": "evaluate",
    "extract_features": "features",
    "finetune": "finetuning",
    "fit_linear_readout": "linear",
    "knn_accuracy": "knn",
}


def __getattr__(name: str) -> Any:
    if name not in _MODULES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(importlib.import_module(f"{__name__}.{_MODULES[name]}"), name)


def __dir__() -> list[str]:
    return [*globals(), *_MODULES]
