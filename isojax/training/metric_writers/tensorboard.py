"""Writes metrics for TensorBoard through tensorboardX, without TensorFlow."""

import time
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from socket import gethostname
from typing import Any

import numpy as np
from ml_collections import ConfigDict

from isojax.fields import field_values
from isojax.runs import layout
from isojax.runs.evaluation_result import FINE_TUNED, LINEAR, knn
from isojax.runs.history import floor_eigenvalues

_BINS = 30
# Prefixes of the names of the config fields in the HPARAMS tab.
_HPARAMS = (
    *("preset", "seed", "epochs", "batch_size", "precision", "data.name"),
    *("method.", "optimizer.", "model."),
)
_HPARAM_METRICS = (
    *(f"{layout.RESULT_NAME}/{name}" for name in (LINEAR, knn(20), FINE_TUNED)),
    *(layout.ONLINE_ACCURACY, layout.LOSS, layout.PARTICIPATION_RATIO),
)


class TensorBoardWriter:
    """Writes event files in the run's folder, and flushes them after every call.

    tensorboardX's own SummaryWriter passes its events to a thread. If the disk is full,
    the thread dies and the next call blocks forever. This class uses the parts of
    tensorboardX without the thread.
    """

    name = "TensorBoard"

    def __init__(
        self,
        workdir: Path,
        *,
        steps_done: int,
        config: Mapping[str, Any] | None = None,
    ):
        """Creates an event file.

        Args:
          workdir: the run's folder.
          steps_done: the step that the run resumes from; 0 for a new run.
          config: the configuration of a training run. The HPARAMS tab shows its main
            fields, and TensorBoard drops later steps of earlier files. None, for an
            evaluation, only adds to earlier files.
        """
        from tensorboardX.proto import event_pb2, summary_pb2
        from tensorboardX.record_writer import RecordWriter

        self._event, self._summary = event_pb2.Event, summary_pb2.Summary
        folder = workdir / layout.TENSORBOARD_FOLDER
        folder.mkdir(exist_ok=True)
        # TensorBoard reads the files in the order of their names.
        name = f"events.out.tfevents.{time.time():.0f}.{gethostname()}.{steps_done:09d}"
        self._file = RecordWriter(str(folder / name))
        session = event_pb2.SessionLog
        try:
            self._write(file_version="brain.Event:2")
            if config is not None:
                start = session(status=session.START)
                self._write(session_log=start, step=steps_done + 1)
                self._write_hparams(config)
            self._file.flush()
        except OSError:
            with suppress(OSError):
                self._file.close()
            raise

    def write_steps(self, first: int, columns: Mapping[str, np.ndarray]) -> None:
        """Writes metrics of consecutive steps; see `MetricWriters.write_steps`."""
        for number, values in enumerate(zip(*columns.values(), strict=True)):
            self._write_scalars(first + number, dict(zip(columns, values, strict=True)))
        self._file.flush()

    def write_epoch(self, row: Mapping[str, Any], eigenvalues: np.ndarray) -> None:
        """Writes an epoch's metrics and a histogram of its eigenvalues."""
        from tensorboardX.summary import make_histogram

        scalars = {name: value for name, value in row.items() if name != "step"}
        self._write_scalars(row["step"], scalars)
        histogram = make_histogram(np.log10(floor_eigenvalues(eigenvalues)), bins=_BINS)
        self._write_value(row["step"], tag=layout.LOG_EIGENVALUES, histo=histogram)
        self._file.flush()

    def write_accuracies(
        self, group: str, points: Mapping[int, Mapping[str, float]]
    ) -> None:
        """Writes the accuracies of an evaluation.

        Args:
          group: the first part of the tags.
          points: accuracies by their names, for the step of each checkpoint.
        """
        for step, values in points.items():
            scalars = {f"{group}/{name}": value for name, value in values.items()}
            self._write_scalars(step, scalars)
        self._file.flush()

    def write_figures(self, step: int, pictures: Sequence[Path]) -> None:
        """Writes PNG files."""
        for path in pictures:
            content = path.read_bytes()
            # The header of a PNG file contains its width and height in pixels.
            width, height = np.frombuffer(content[16:24], ">u4").tolist()
            image = self._summary.Image(
                width=width, height=height, encoded_image_string=content
            )
            self._write_value(
                step, tag=f"{layout.FIGURES_PREFIX}{path.stem}", image=image
            )
        self._file.flush()

    def close(self, *, failed: bool) -> None:
        """Closes the file."""
        del failed
        self._file.close()

    def _write_hparams(self, config: Mapping[str, Any]) -> None:
        """Writes the main fields of the config for the HPARAMS tab."""
        from tensorboardX.summary import hparams

        fields = {
            name: value if isinstance(value, bool | int | float | str) else str(value)
            for name, value in field_values(ConfigDict(config)).items()
            if name.startswith(_HPARAMS)
        }
        experiment, start, _ = hparams(fields, dict.fromkeys(_HPARAM_METRICS, 0.0))
        self._write(summary=experiment)
        self._write(summary=start)

    def _write_scalars(self, step: int, scalars: Mapping[str, float]) -> None:
        values = [
            self._summary.Value(tag=tag, simple_value=value)
            for tag, value in scalars.items()
        ]
        self._write(step=step, summary=self._summary(value=values))

    def _write_value(self, step: int, **fields) -> None:
        value = self._summary.Value(**fields)
        self._write(step=step, summary=self._summary(value=[value]))

    def _write(self, **fields) -> None:
        event = self._event(wall_time=time.time(), **fields)
        self._file.write(event.SerializeToString())
