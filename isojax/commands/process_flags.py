"""The flags that connect several processes, for the commands that use them."""

from absl import flags

# Flags defined through this module belong to the calling command in `--help`.
flags.disclaim_key_flags()

# As `command_line.run` takes them.
GROUP = {
    "several processes": {
        "coordinator": "=HOST:PORT",
        "num_processes": "=N",
        "process_id": "=N",
    }
}


def define_process_flags() -> None:
    """Defines `--coordinator`, `--num_processes` and `--process_id`."""
    flags.DEFINE_string(
        "coordinator",
        None,
        "Address of process 0. Omit these three flags under Slurm and Open MPI, and "
        "set only --coordinator=auto on TPU virtual machines. isojax launch sets all "
        "three.",
    )
    flags.DEFINE_integer("num_processes", None, "Number of processes.")
    flags.DEFINE_integer("process_id", None, "Index of this process, from 0.")


def connect_processes() -> None:
    """Connects this process to the others, as the flags say, and starts JAX.

    Must be called before any other use of JAX.

    Raises:
      UsageError: if a flag is missing or wrong, or JAX finds no device.
    """
    from isojax import processes  # imports JAX, which takes a second

    values = flags.FLAGS
    processes.connect(values.coordinator, values.num_processes, values.process_id)
    processes.check_platform()
    processes.print_local_devices()
