"""Signals that ask a run to save its state and exit.

Imports no JAX, so that a command listens before its slow imports.
"""

import enum
import os
import signal
import sys
import threading
import time
from abc import ABC, abstractmethod
from types import TracebackType
from typing import TYPE_CHECKING, Any, Self

from isojax.output import print_line

if TYPE_CHECKING:  # takes milliseconds to import
    import subprocess

# EX_TEMPFAIL of sysexits.h: the same command resumes the run.
STOPPED_EXIT_CODE = 75
# Schedulers repeat a signal within milliseconds; Slurm sends SIGTERM twice in 0.03 s.
_REPEATED_SECONDS = 10
# `timeout -s INT` sends SIGINT twice, to its child and to its process group. A user
# cannot press Ctrl-C twice within this time.
_REPEATED_INTERRUPT_SECONDS = 0.1


def stop_signals() -> tuple[signal.Signals, ...]:
    """Returns the signals that ask a run to stop.

    SIGTERM and SIGINT; SIGUSR1, which batch scripts ask Slurm to send before the time
    limit; and SIGHUP, unless it is ignored as under nohup.
    """
    numbers = (signal.SIGTERM, signal.SIGINT, signal.SIGUSR1)
    if signal.getsignal(signal.SIGHUP) == signal.SIG_IGN:
        return numbers
    return (*numbers, signal.SIGHUP)


class Request(enum.Enum):
    """What a received signal means; see `RepetitionRule`."""

    FIRST = enum.auto()
    REPEATED = enum.auto()
    URGENT = enum.auto()


class RepetitionRule:
    """Distinguishes a user's second request from a signal that a scheduler repeats."""

    def __init__(self) -> None:
        """Creates a rule that has seen no signal."""
        self._first: float | None = None
        self._interrupted: float | None = None

    def classify(self, number: int) -> Request:
        """Records a signal and returns its meaning.

        Args:
          number: the signal's number.

        Returns:
          `FIRST` for the first signal. `URGENT`, which asks the process to end without
          saving, for a second SIGINT and for any signal more than ten seconds after the
          first. `REPEATED`, to be ignored, for any other.
        """
        now = time.monotonic()
        is_first = self._first is None
        self._first = now if self._first is None else self._first
        is_urgent = now - self._first > _REPEATED_SECONDS
        if number == signal.SIGINT:
            if self._interrupted is None:
                self._interrupted = now
            is_urgent |= now - self._interrupted > _REPEATED_INTERRUPT_SECONDS
        if is_urgent:
            return Request.URGENT
        return Request.FIRST if is_first else Request.REPEATED


class SignalListener(ABC):
    """Listens for the signals of `stop_signals` while its context is open.

    A thread listens, because Python calls no signal handler while the main thread
    compiles a program. Subclasses define what the first and the urgent signals do.
    """

    def __init__(self) -> None:
        """Creates a listener that does not listen yet."""
        self._before: dict[signal.Signals, Any] = {}

    @property
    @abstractmethod
    def is_stopping(self) -> bool:
        """Whether the process is about to exit on request."""

    @abstractmethod
    def _handle_first(self, number: int) -> None:
        """Handles the first signal, in the listening thread."""

    @abstractmethod
    def _handle_urgent(self, number: int) -> None:
        """Handles an urgent signal, in the listening thread."""

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
        for number, handler in self._before.items():
            # None if the previous handler was not installed from Python.
            handler = signal.SIG_DFL if handler is None else handler
            # A signal that a scheduler repeats would replace the process's exit code.
            is_repeated = self.is_stopping and number != signal.SIGINT
            signal.signal(number, signal.SIG_IGN if is_repeated else handler)
        signal.set_wakeup_fd(self._wakeup_before)
        os.close(self._write)  # ends the listener
        self._listener.join()
        os.close(self._read)

    def _listen(self) -> None:
        rule = RepetitionRule()
        handlers = {
            Request.FIRST: self._handle_first,
            Request.URGENT: self._handle_urgent,
        }
        while data := os.read(self._read, 1):
            number = data[0]
            if number not in self._before:
                continue
            request = rule.classify(number)
            if request in handlers:
                handlers[request](number)


class StopRequest(SignalListener):
    """Records that a signal has asked this process to stop its training.

    The first signal sets `is_set`; the training loop then saves and returns. An urgent
    one (see `RepetitionRule`) ends the process at once with exit code 128 + its number.
    Meant for commands: it would end the kernel of a notebook.

    Attributes:
      is_set: whether the run was asked to stop.
      ends_at_once: whether the first signal ends the process immediately, with exit
        code `STOPPED_EXIT_CODE`: true while there is nothing to save and no other
        process waits for this one.
      has_stopped_run: whether a run has ended before its last step on request, its
        state saved. Set by the training loop.
    """

    def __init__(self) -> None:
        """Creates a request that does not listen yet."""
        super().__init__()
        self.is_set = False
        self.ends_at_once = True
        self.has_stopped_run = False

    @property
    def is_stopping(self) -> bool:
        """Whether the process is about to exit on request."""
        return self.is_set or self.has_stopped_run

    def _handle_first(self, number: int) -> None:
        del number
        if self.ends_at_once:
            print_line("\nStopped; there was nothing to save.")
            os._exit(STOPPED_EXIT_CODE)
        self.is_set = True
        print_line("\nStopping once the state is saved ...", stream=sys.stderr)

    def _handle_urgent(self, number: int) -> None:
        os._exit(128 + number)


class SignalForwarder(SignalListener):
    """Passes stop signals on to child processes.

    The first signal is sent to every process: SIGINT unchanged, any other as SIGTERM.
    An urgent one (see `RepetitionRule`) kills all of them. A process that is added
    later receives what the others have received.

    Attributes:
      received: the number of the first signal, or None.
      killed_by: the number of the first urgent signal, or None.
    """

    def __init__(self) -> None:
        """Creates a forwarder that does not listen yet."""
        super().__init__()
        self.received: int | None = None
        self.killed_by: int | None = None
        self._processes: list[subprocess.Popen] = []
        self._lock = threading.Lock()

    @property
    def is_stopping(self) -> bool:
        """Whether the process is about to exit on request."""
        return self.received is not None

    def add(self, process: "subprocess.Popen") -> None:
        """Adds a process that receives the signals."""
        with self._lock:
            self._processes.append(process)
            self._send([process])

    def _handle_first(self, number: int) -> None:
        with self._lock:
            self.received = number
            self._send(self._processes)

    def _handle_urgent(self, number: int) -> None:
        with self._lock:
            self.killed_by = self.killed_by or number
            self._send(self._processes)

    def _send(self, processes: "list[subprocess.Popen]") -> None:
        if self.received is None:
            return
        number = signal.SIGINT if self.received == signal.SIGINT else signal.SIGTERM
        for process in processes:
            process.send_signal(signal.SIGKILL if self.killed_by else number)
