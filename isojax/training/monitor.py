"""Metrics of an epoch, and the line that an epoch prints."""

from collections.abc import Callable, Sequence

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array

from isojax import data_parallel, processes, spectral
from isojax.data import Split, augment, full_batches
from isojax.models import SiameseNetwork
from isojax.runs import layout
from isojax.training.probe import probe_logits
from isojax.training.representation_metrics import products_of, representation_metrics
from isojax.training.state import TrainState

_BATCH_SIZE = 250  # images per device
# Compiled, because on a GPU each operation alone takes 0.05 s to compile.
_participation_ratio = jax.jit(spectral.participation_ratio)
_eigenvector_alignment = jax.jit(spectral.eigenvector_alignment)


def make_evaluation(
    network: SiameseNetwork, *, mean: Sequence[float], std: Sequence[float]
) -> Callable[[TrainState, Split], dict[str, float]]:
    """Builds the evaluation of an epoch.

    Args:
      network: the module.
      mean: mean of each channel, in [0, 1].
      std: standard deviation of each channel.

    Returns:
      A function of a state and images. It returns the online probe's accuracy if the
      images have labels and, in the first process, the metrics of the
      representations, both in evaluation mode; nothing without images.
    """

    def evaluate_batch(
        variables: tuple[dict, dict, Array], images: Array
    ) -> tuple[Array, Array]:
        params, batch_stats, probe_weights = variables
        images = augment.normalize(
            images.astype(jnp.float32) / 255.0,
            mean=mean,
            std=std,
        )
        representation, _ = network.apply(
            {"params": params, "batch_stats": batch_stats}, images, train=False
        )
        logits = probe_logits(probe_weights, representation)
        return logits.argmax(axis=-1), representation

    mapped = data_parallel.MappedFunction(evaluate_batch)

    def evaluate(state: TrainState, split: Split) -> dict[str, float]:
        total = len(split.labels)
        if not total:
            return {}
        variables = state.params, state.batch_stats, state.probe.weights
        size = data_parallel.rows_per_device(total, _BATCH_SIZE)
        own = data_parallel.own_rows(total, size)
        labels, first = split.labels[own], 0
        batches = full_batches(
            split.images[own], size * data_parallel.local_device_count()
        )
        image = jax.ShapeDtypeStruct((1, *split.images.shape[1:]), split.images.dtype)
        dim = jax.eval_shape(evaluate_batch, variables, image)[1].shape[1]
        products, sums = np.zeros((dim, dim)), np.zeros(dim)
        correct = np.zeros((), np.int64)
        for classes, z in mapped.map_batches(variables, batches):
            correct += (classes == labels[first : first + len(z)]).sum()
            products += products_of(z)  # while the devices compute the next batches
            sums += z.sum(axis=0, dtype=np.float64)
            first += len(z)
        correct, products, sums = map(processes.add, (correct, products, sums))
        row = {}
        if (split.labels >= 0).all():
            row[layout.ONLINE_ACCURACY] = float(correct / total)
        if processes.is_first_process():
            row |= representation_metrics(products, sums, total)
        return row

    return evaluate


def spectrum_metrics(eigenvalues: np.ndarray) -> dict[str, float]:
    """Metrics of the correlation's eigenvalues, shape (dim,)."""
    return {
        layout.PARTICIPATION_RATIO: float(_participation_ratio(eigenvalues)),
        layout.EIGENVALUE_MIN: float(eigenvalues.min()),
        layout.EIGENVALUE_MAX: float(eigenvalues.max()),
        layout.EIGENVALUE_MEAN: float(eigenvalues.mean()),
        layout.EIGENVALUE_STD: float(eigenvalues.std()),
    }


def alignment_metrics(params: dict, correlation: np.ndarray) -> dict[str, float]:
    """Alignment of a learned linear predictor with the correlation's eigenvectors.

    Args:
      params: parameters of the network.
      correlation: correlation of the projections, shape (dim, dim).

    Returns:
      Mean and minimum over the modes; empty for other predictors.
    """
    kernel = params.get("predictor", {}).get("map", {}).get("kernel")
    if kernel is None:
        return {}
    # The layer computes z W^T.
    alignment = np.asarray(_eigenvector_alignment(kernel.T, correlation))
    return {
        layout.ALIGNMENT_MEAN: float(alignment.mean()),
        layout.ALIGNMENT_MIN: float(alignment.min()),
    }


def describe_columns(evaluation_name: str | None) -> str:
    """Returns the explanation of the epochs' lines, which is printed before them.

    Args:
      evaluation_name: name of the evaluation images; None if they have no labels.
    """
    if evaluation_name is None:
        return (
            "Each epoch prints the loss and the participation ratio of the "
            "projections'\ncorrelation."
        )
    return (
        f"Each epoch prints the loss, the online probe's {evaluation_name} accuracy "
        "and\nthe participation ratio of the projections' correlation."
    )


def describe(row: dict[str, float], epochs: int) -> str:
    """Returns the line that a finished epoch prints, at most 80 columns.

    Args:
      row: the epoch's metrics, as in `metrics.jsonl`.
      epochs: number of epochs of the run.
    """
    probe, speed = row.get(layout.ONLINE_ACCURACY), row.get(layout.IMAGES_PER_SECOND)
    return (
        f"epoch {row['epoch']}/{epochs}  loss {row[layout.LOSS]:.3f}  "
        + ("" if probe is None else f"probe {probe:.3f}  ")
        + f"participation {row[layout.PARTICIPATION_RATIO]:.1f}"
        + ("" if speed is None else f"  {speed:,.0f} images/s")
    )
