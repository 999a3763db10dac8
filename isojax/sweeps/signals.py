"""Signals that stop a sweep and the run that it waits for."""

import signal
import subprocess
from types import TracebackType
from typing import Self

from isojax.stopping import Repetition, stop_signals


class Signals:
    """Records the `stop_signals` and passes the first one to the current run.

    An urgent repetition (see `Repetition`) kills the run.

    Attributes:
      received: their numbers.
      killed_by: the number of the urgent one, or None.
    """

    def __init__(self):
        """Creates an object that listens to nothing yet."""
        self.received: list[int] = []
        self.killed_by: int | None = None
        self._repetition = Repetition()
        self._process: subprocess.Popen | None = None
        self._before: dict[signal.Signals, object] = {}

    def __enter__(self) -> Self:
        """Starts to listen."""
        for number in stop_signals():
            self._before[number] = signal.signal(number, self._record)
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        """Restores the earlier handlers."""
        for number, handler in self._before.items():
            signal.signal(number, handler)

    def reach(self, process: subprocess.Popen) -> None:
        """Passes signals to this process from now on."""
        self._process = process
        if self.received:  # while it was started
            self._send_stop()

    def _record(self, number: int, frame: object) -> None:
        del frame
        self.received.append(number)
        if self._repetition.is_urgent(number):
            self.killed_by = number
            if self._process is not None:
                self._process.kill()
        elif self._process is not None and len(self.received) == 1:
            self._send_stop()

    def _send_stop(self) -> None:
        is_interrupt = self.received[0] == signal.SIGINT
        self._process.send_signal(signal.SIGINT if is_interrupt else signal.SIGTERM)
