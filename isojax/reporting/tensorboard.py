"""A run's metrics for TensorBoard, through tensorboardX and so without TensorFlow."""

import time
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from socket import gethostname

import numpy as np

from isojax.reporting.spectrum import floored

FOLDER = "tensorboard"
_BINS = 30


class TensorBoardWriter:
    """Event files in the run's folder, whole after every call.

    tensorboardX's own SummaryWriter hands its events to a thread. Where the disk is
    full that thread dies, and the next call waits for ever: so its parts are used here
    without the thread.
    """

    name = "TensorBoard"

    def __init__(self, workdir: Path, *, steps_done: int):
        """Begins a file, and drops what earlier ones have of later steps.

        Args:
          workdir: the run's folder.
          steps_done: of the checkpoint that the run goes on from.
        """
        from tensorboardX.proto import event_pb2, summary_pb2
        from tensorboardX.record_writer import RecordWriter

        self._event, self._summary = event_pb2.Event, summary_pb2.Summary
        folder = workdir / FOLDER
        folder.mkdir(exist_ok=True)
        # Files are read in the order of their names.
        name = f"events.out.tfevents.{time.time():.0f}.{gethostname()}.{steps_done:09d}"
        self._file = RecordWriter(str(folder / name))
        session = event_pb2.SessionLog
        try:
            self._write(file_version="brain.Event:2")
            self._write(session_log=session(status=session.START), step=steps_done + 1)
            self._file.flush()
        except OSError:
            with suppress(OSError):
                self._file.close()
            raise

    def write_steps(self, first: int, columns: Mapping[str, np.ndarray]) -> None:
        """Writes metrics of consecutive steps; arguments as in `Writers`."""
        for number, values in enumerate(zip(*columns.values(), strict=True)):
            self._write_scalars(first + number, dict(zip(columns, values, strict=True)))
        self._file.flush()

    def write_epoch(self, row: Mapping[str, float], eigenvalues: np.ndarray) -> None:
        """Writes an epoch's metrics and a histogram of its eigenvalues."""
        from tensorboardX.summary import make_histogram

        scalars = {name: value for name, value in row.items() if name != "step"}
        self._write_scalars(row["step"], scalars)
        histogram = make_histogram(np.log10(floored(eigenvalues)), bins=_BINS)
        self._write_value(
            row["step"], tag="spectrum/log10_eigenvalues", histo=histogram
        )
        self._file.flush()

    def write_figures(self, step: int, pictures: Sequence[Path]) -> None:
        """Writes PNG files."""
        for path in pictures:
            content = path.read_bytes()
            # A PNG file says its size, in pixels, at its beginning.
            width, height = np.frombuffer(content[16:24], ">u4").tolist()
            image = self._summary.Image(
                width=width, height=height, encoded_image_string=content
            )
            self._write_value(step, tag=f"figures/{path.stem}", image=image)
        self._file.flush()

    def close(self, *, failed: bool) -> None:
        """Closes the file."""
        del failed
        self._file.close()

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
