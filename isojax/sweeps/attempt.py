"""One run of a sweep in a process of its own."""

import os
import subprocess
import time
from contextlib import ExitStack
from pathlib import Path

from ml_collections import ConfigDict

from isojax.sweeps.job_devices import JobDevices, use_cores
from isojax.sweeps.plan import SweepRun
from isojax.sweeps.rows import part_done
from isojax.sweeps.run_log import output_path, read_log_entry, write_log_entry
from isojax.sweeps.status_line import Progress


class Attempt:
    """A process that trains and evaluates a run, and its time.

    Attributes:
      run: the run.
      devices: the devices that the process uses.
      process: the process.
      is_lost: whether another process has taken over the run, as it can in a bucket.
    """

    def __init__(
        self,
        directory: Path,
        run: SweepRun,
        command: list[str],
        *,
        config: ConfigDict,
        devices: JobDevices,
        claim: ExitStack,
    ):
        """Starts the process.

        Args:
          directory: the sweep's folder.
          run: the run.
          command: the command that trains and evaluates it.
          config: the config of the run.
          devices: the devices that the process uses.
          claim: holds the claim of the run; `release` closes it.
        """
        self.run, self.devices, self.is_lost = run, devices, False
        self._directory, self._config, self._claim = directory, config, claim
        self._entry = read_log_entry(directory, run)
        self._entry.pop("crashed", None)
        self._spent = self._entry.get("seconds", 0.0)
        self._start = time.monotonic()
        self._save_seconds()
        self._before = self._part = part_done(directory, run, config)
        with (
            output_path(directory, run).open("wb") as output,
            use_cores(devices.cores),
        ):
            self.process = subprocess.Popen(
                command,
                stdin=subprocess.PIPE,  # its end stops the run; see sweep_worker.py
                stdout=output,
                stderr=subprocess.STDOUT,
                env=os.environ | devices.environment,
                process_group=0,  # otherwise a terminal's Ctrl-C reaches it twice
            )

    def has_ended(self) -> bool:
        """Whether the process has ended; saves the time that has passed."""
        code = self.process.poll()
        part = part_done(self._directory, self.run, self._config)
        if part != self._part or code is not None:  # often, in case of a SIGKILL
            self._part = part
            self._save_seconds()
        return code is not None

    def progress(self) -> Progress:
        """Returns how far the run is."""
        elapsed = time.monotonic() - self._start
        return Progress(self._part, self._part - self._before, elapsed)

    def lose(self) -> None:
        """Stops the process, because another one has taken over the run."""
        self.is_lost = True
        self.process.terminate()

    def release(self) -> None:
        """Stops the process if it is still running, and releases the claim."""
        assert self.process.stdin is not None  # a pipe was asked for
        self.process.stdin.close()
        self.process.wait()
        self._claim.close()

    def _save_seconds(self) -> None:
        seconds = self._spent + time.monotonic() - self._start
        write_log_entry(self._directory, self.run, self._entry | {"seconds": seconds})
