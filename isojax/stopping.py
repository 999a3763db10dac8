"""Signals that ask a run to save its state and exit.

Imports no JAX, so that a script listens before its slow imports.
"""

import os
import signal
import sys
import threading
import time
from types import TracebackType
from typing import Self

from isojax.output import say

# EX_TEMPFAIL of sysexits.h: the same command resumes the run.
STOPPED_EXIT_CODE = 75
# Schedulers repeat a signal within milliseconds; Slurm sends SIGTERM twice in 0.03 s.
_REPEATED_SECONDS = 10
# `timeout -s INT` signals its child and its process group; no person is that fast.
_REPEATED_INTERRUPT_SECONDS = 0.1


def stop_signals() -> tuple[signal.Signals, ...]:
    """The signals that ask a run to stop.

    SIGTERM and SIGINT; SIGUSR1, which batch scripts ask Slurm to send before the time
    limit; and SIGHUP, unless it is ignored as under nohup.
    """
    numbers = (signal.SIGTERM, signal.SIGINT, signal.SIGUSR1)
    if signal.getsignal(signal.SIGHUP) == signal.SIG_IGN:
        return numbers
    return (*numbers, signal.SIGHUP)


class Repetition:
    """Tells a person's second request from a signal that a scheduler repeats."""

    def __init__(self):
        """Starts before the first signal."""
        self._first: float | None = None
        self._interrupted: float | None = None

    def is_urgent(self, number: int) -> bool:
        """Records a signal; returns whether the process must end without saving.

        Args:
          number: the signal's number.

        Returns:
          True for a second SIGINT, and for any signal more than ten seconds after the
          first one.
        """
        now = time.monotonic()
        self._first = now if self._first is None else self._first
        is_urgent = now - self._first > _REPEATED_SECONDS
        if number == signal.SIGINT:
            if self._interrupted is None:
                self._interrupted = now
            is_urgent |= now - self._interrupted > _REPEATED_INTERRUPT_SECONDS
        return is_urgent


class StopRequest:
    """Listens for the signals of `stop_signals` while a run trains.

    The first signal sets `is_set`; the training loop then saves and returns. An urgent
    one (see `Repetition`) ends the process at once with exit code 128 + its number.

    A thread listens, because Python calls no signal handler while the main thread
    compiles a program. Meant for scripts: it would end the kernel of a notebook.

    Attributes:
      is_set: whether the run was asked to stop.
      ends_at_once: whether the first signal ends the process with
        `STOPPED_EXIT_CODE`: true while there is nothing to save and no other process
        waits for this one.
      has_stopped_run: whether a run has ended before its last step on request, its
        state saved. Set by the training loop.
    """

    def __init__(self):
        """Creates a request that listens to nothing yet."""
        self.is_set = False
        self.ends_at_once = True
        self.has_stopped_run = False
        self._before: dict[signal.Signals, object] = {}

    def __enter__(self) -> Self:
        """Starts to listen, if this is the main thread: Python allows no other."""
        if threading.current_thread() is not threading.main_thread():
            return self
        self._read, self._write = os.pipe()
        os.set_blocking(self._write, False)
        self._wakeup_before = signal.set_wakeup_fd(self._write)
        for number in stop_signals():
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
        """Restores the earlier handlers, and ignores repeated signals after a stop."""
        if not self._before:
            return
        is_stopping = self.is_set or self.has_stopped_run
        for number, handler in self._before.items():
            # None where a library had set it without Python's knowledge.
            handler = signal.SIG_DFL if handler is None else handler
            # A scheduler's repetition would replace the exit code of the stopped run.
            is_repeated = is_stopping and number != signal.SIGINT
            signal.signal(number, signal.SIG_IGN if is_repeated else handler)
        signal.set_wakeup_fd(self._wakeup_before)
        os.close(self._write)  # ends the listener
        self._listener.join()
        os.close(self._read)

    def _listen(self) -> None:
        repetition = Repetition()
        while data := os.read(self._read, 1):
            number = data[0]
            if number not in self._before:
                continue
            if repetition.is_urgent(number):
                os._exit(128 + number)
            if self.ends_at_once:
                say("\nStopped; there was nothing to save.")
                os._exit(STOPPED_EXIT_CODE)
            if not self.is_set:
                self.is_set = True
                say("\nStopping after this step ...", stream=sys.stderr)
