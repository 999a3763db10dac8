"""Measures what a training step costs, on random images.

    isojax profile [--config=NAME[:PRESET]] [--steps=10]
                   [--trace=DIR] [--config.FIELD=VALUE ...]

Prints operations, bytes, collectives, memory and time of one step.
"""

from absl import flags

from isojax.commands import command_line

_CONFIG = command_line.define_config(
    "digits",
    "A config of isojax or the path of a file; a preset may follow after a colon.",
)
_STEPS = flags.DEFINE_integer("steps", 10, "Timed steps.")
_TRACE = command_line.define_path(
    "trace",
    None,
    "Directory for a trace of the steps, for TensorBoard and XProf.",
)


def main() -> None:
    """Prints the costs of the step that the flags describe."""
    config = command_line.config_to_train(_CONFIG)
    # After the flags: JAX takes a second to import.
    from isojax import parallel
    from isojax.compilation import choose_kernels, keep_programs

    choose_kernels()  # before JAX computes
    parallel.check_platform()
    keep_programs("runs/profile")  # the program is compiled to be read, and to be run
    from isojax.training.step_cost import describe_profile, profile_step

    profile = profile_step(config, steps=_STEPS.value, trace=_TRACE.value)
    print(describe_profile(profile, config))
    if _TRACE.value:
        print(
            f"Traced to {_TRACE.value}: pip install xprof, then "
            f"tensorboard --logdir={_TRACE.value}"
        )


def run() -> None:
    """Runs the command line in `sys.argv`."""
    command_line.run(
        main,
        module=__name__,
        groups={
            "step": {"config": "=FILE[:PRESET]"},
            "measurement": {"steps": "=N", "trace": "=DIR"},
        },
        notes={
            "config fields": "--config.FIELD=VALUE sets one; docs/configs.md has all.",
        },
    )
