"""Ctrl-C and SIGTERM while a sweep waits for a run."""

import signal
import subprocess
from types import TracebackType
from typing import Self


class Signals:
    """SIGINT and SIGTERM, noted and handed on to the run at work.

    A second one kills the run.

    Attributes:
      came: their numbers.
    """

    def __init__(self):
        """Listens to nothing yet."""
        self.came: list[int] = []
        self._process: subprocess.Popen | None = None
        self._before: dict[signal.Signals, object] = {}

    def __enter__(self) -> Self:
        """Begins to listen."""
        for number in (signal.SIGINT, signal.SIGTERM):
            self._before[number] = signal.signal(number, self._note)
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        """Gives the signals back to whoever had them."""
        for number, handler in self._before.items():
            signal.signal(number, handler)

    def reach(self, process: subprocess.Popen) -> None:
        """Hands on to this process from now on."""
        self._process = process
        if self.came:  # while it was started
            process.send_signal(self.came[0])

    def _note(self, number: int, frame: object) -> None:
        del frame
        self.came.append(number)
        if self._process is not None:
            first = len(self.came) == 1
            self._process.send_signal(number if first else signal.SIGKILL)
