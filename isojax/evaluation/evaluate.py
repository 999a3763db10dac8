"""Evaluates a run and stores the result in its folder."""

import json
import os
from pathlib import Path
from typing import Any

import flax.linen as nn

from isojax import processes
from isojax.data import Dataset
from isojax.errors import UsageError
from isojax.evaluation.measure import Evaluation, measure_run
from isojax.evaluation.options import Options
from isojax.evaluation.report_arrays import (
    ShownImages,
    choose_shown_images,
    save_report_arrays,
)
from isojax.evaluation.table import format_table as format_table
from isojax.files import hold_lock, write_atomically
from isojax.output import print_line, run_optional
from isojax.progress import SILENT, Progress
from isojax.runs import layout
from isojax.runs.config_file import load_config
from isojax.runs.evaluation_result import (
    EvaluationResult,
    file_suffix,
    merge_results,
    result_file,
    stored_result,
)
from isojax.runs.mirror import find_mirror, local_folder, refresh, upload
from isojax.training.metric_writers import write_accuracies


def evaluate_run(
    workdir: str | os.PathLike,
    *,
    dataset: Dataset | None = None,
    backbone: nn.Module | None = None,
    data_dir: str | os.PathLike | None = None,
    options: Options = Options(),  # noqa: B008 - immutable
    progress: Progress = SILENT,
) -> dict[str, Any]:
    """Evaluates a run and writes `linear_eval.json`.

    Several evaluations of one run may run at the same time: results are merged and
    written under a lock. All devices compute. If there are several processes, all of
    them must call this function with the same arguments; the first one writes.

    Args:
      workdir: path or URL of the run's folder, in which the result is written, and
        `evaluation.npz` with arrays for the report.
      dataset: labelled images, such as those of `isojax.data.from_arrays`, instead of
        those that the run's config names. If its images for pretraining are not those
        of the run, the result's file is named after their checksum.
      backbone: the module that was passed to `pretrain`, if any.
      data_dir: the folder of the data sets, as in `load_dataset`.
      options: what to measure; by default the linear readout and k-NN.
      progress: reports features, fits, searches and fine-tuning; silent by default.

    Returns:
      The content of the file, in every process: `accuracy` (0 to 1), the `split` it
      was measured on, `num_train`, `num_test`, `num_test_pretrained` (the number of
      test images that the encoder was pretrained on, if any), the baselines'
      accuracies, `knn_accuracy` by number of neighbours, `knn_temperature`, and how the
      penalty was chosen; if requested, `finetune_accuracy`, `online_accuracy` and the
      lists `label_fractions` and `curve`. Results of other protocols in the file are
      kept if they are of the same checkpoint and images.

    Raises:
      UsageError: if the folder holds no run or no such checkpoint, the run has another
        backbone, the images do not fit the encoder, or the result cannot be written, in
        which case it is printed.
    """
    with local_folder(workdir) as folder:
        _check_writable(folder)
        found = measure_run(
            folder,
            dataset=dataset,
            backbone=backbone,
            data_dir=data_dir,
            options=options,
            progress=progress,
        )
        shown = None
        if found.predictions is not None and not found.result.get("data"):
            shown = choose_shown_images(
                found.inputs.test.labels,
                found.inputs.features,
                found.inputs.test_features,
                found.predictions,
            )
        written: list[dict[str, Any]] = []
        processes.in_first_process(
            lambda: written.append(_write(folder, found, shown, options))
        )
        return json.loads(processes.gather(json.dumps(written))[0])[0]


def _check_writable(workdir: Path) -> None:
    problem = ""
    if mirror := find_mirror(workdir):
        try:
            mirror.check_writable()
        except OSError as error:
            problem = f" ({error.strerror})"
    elif not workdir.is_dir() or os.access(workdir, os.W_OK):
        return
    if mirror is None or problem:
        raise UsageError(
            f"--workdir={workdir} is not writable{problem}, so the result could not be "
            "stored; copy the run to another folder, or change the folder's permissions"
        )


def _write(
    workdir: Path, found: Evaluation, shown: ShownImages | None, options: Options
) -> dict[str, Any]:
    """Merges a result with the stored one, writes it and returns it.

    Raises:
      UsageError: if it cannot be written; it is printed then.
    """
    try:
        refresh(workdir)  # another evaluation may have ended in the meantime
        with hold_lock(workdir / layout.EVALUATION_LOCK_FILE, required=False):
            result = _write_locked(workdir, found, shown, options)
        upload(workdir)
        return result
    except OSError as error:
        print_line(format_table(found.result))  # it may have taken hours
        raise UsageError(
            f"--workdir={workdir} is not writable ({error.strerror}); the result was "
            "not stored completely. Free disk space, or copy the run to another folder"
        ) from error


def _write_locked(
    workdir: Path, found: Evaluation, shown: ShownImages | None, options: Options
) -> dict[str, Any]:
    changes = found.result.get("data", {})
    path = workdir / result_file(changes)
    result = merge_results(stored_result(path, found.result), found.result)
    write_atomically(path, (json.dumps(result, indent=2) + "\n").encode())
    if shown is not None and (predictions := found.predictions) is not None:
        inputs = found.inputs
        run_optional(
            lambda: save_report_arrays(
                workdir, inputs.dataset, inputs.test_features, predictions, shown
            ),
            failure=f"{layout.EVALUATION_ARRAYS_FILE} was not written; the report "
            "lacks neighbours and confusion matrix of this evaluation",
        )
    run_optional(
        lambda: write_accuracies(
            workdir, load_config(workdir), result, group=path.stem
        ),
        failure="the accuracies were not written to TensorBoard",
    )
    if "curve" in result and options.steps is not None:
        picture = f"accuracy{file_suffix(changes)}.png"
        run_optional(
            lambda: _draw_curve(workdir / layout.FIGURES_FOLDER / picture, result),
            failure=f"{layout.FIGURES_FOLDER}/{picture} was not drawn",
        )
    return result


def _draw_curve(path: Path, result: dict[str, Any]) -> None:
    # Imports Matplotlib.
    from isojax.reporting.accuracy_curve import save_accuracy

    path.parent.mkdir(exist_ok=True)
    save_accuracy(path, EvaluationResult.from_json(result))
