"""SIGTERM and SIGINT as a wish to stop: save, and end well."""

import os
import signal
import sys
import threading
from contextlib import suppress
from types import TracebackType
from typing import Self

from isojax import parallel
from isojax.output import say

_SIGNALS = (signal.SIGTERM, signal.SIGINT)


class StopRequest:
    """Listens for signals while a run trains.

    The first signal sets `wished`, and the loop saves and ends. A second one ends the
    process at once. So does the first before anything has been trained, unless other
    processes would wait for this one: in the main thread Python hears no signal as
    long as a program is compiled, so a thread listens. Meant for a script: a notebook
    would lose its kernel.

    Attributes:
      wished: whether the run shall stop.
      has_progress: whether anything has been trained.
    """

    def __init__(self):
        """Listens to nothing yet."""
        self.wished = False
        self.has_progress = False
        self._before: dict[signal.Signals, object] = {}

    def __enter__(self) -> Self:
        """Begins to listen, in the main thread only: elsewhere Python allows it not."""
        if threading.current_thread() is not threading.main_thread():
            return self
        self._read, self._write = os.pipe()
        os.set_blocking(self._write, False)
        self._wakeup_before = signal.set_wakeup_fd(self._write)
        for number in _SIGNALS:
            # The handler does nothing: the signal's number arrives in the pipe.
            self._before[number] = signal.signal(number, lambda *_: None)
        self._listener = threading.Thread(target=self._listen, daemon=True)
        self._listener.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        """Gives the signals back to whoever had them."""
        if not self._before:
            return
        for number, handler in self._before.items():
            # None where a library had set it without Python's knowledge.
            signal.signal(number, signal.SIG_DFL if handler is None else handler)
        signal.set_wakeup_fd(self._wakeup_before)
        os.close(self._write)  # at which the listener ends
        self._listener.join()
        os.close(self._read)

    def _listen(self) -> None:
        while data := os.read(self._read, 1):
            if data[0] not in _SIGNALS:
                continue
            if self.wished:
                os._exit(128 + data[0])
            self.wished = True
            if not self.has_progress and parallel.process_part()[1] == 1:
                say("\nStopped before the first step; nothing is lost.")
                os._exit(0)
            with suppress(OSError):  # nobody may be reading
                print("\nStopping after this step ...", file=sys.stderr, flush=True)
