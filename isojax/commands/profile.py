"""Measures the cost of a training step on random images.

    isojax profile [--config=NAME[:PRESET]] [--steps=10]
                   [--trace=DIR] [--config.FIELD=VALUE ...]

Prints the operations, bytes, collectives, memory and time of one step.
"""

from absl import flags

from isojax.commands import command_line, config_flag, path_flag

_CONFIG = config_flag.define_config(
    "digits",
    "Config: the name of a packaged config or the path of a file; optionally followed "
    "by a colon and a preset.",
)
_STEPS = flags.DEFINE_integer("steps", 10, "Number of timed steps.")
_TRACE = path_flag.define_path(
    "trace",
    None,
    "Directory in which a trace of the steps is written, for TensorBoard and XProf.",
)


def main() -> None:
    """Profiles a step with the settings of the flags."""
    config = config_flag.config_to_train(_CONFIG)
    # After the flags: JAX takes a second to import.
    from isojax import processes
    from isojax.compilation import enable_compilation_cache, use_eigen_convolutions

    use_eigen_convolutions()  # before JAX computes
    processes.check_platform()
    # One compiled program serves the report and the timing.
    enable_compilation_cache("runs/profile")
    from isojax.training.step_cost import describe_profile, profile_step

    profile = profile_step(config, steps=_STEPS.value, trace=_TRACE.value)
    print(describe_profile(profile, config))
    if _TRACE.value:
        print(
            f"Trace written to {_TRACE.value}; to view it, pip install xprof and run "
            f"tensorboard --logdir={_TRACE.value}"
        )


def run() -> None:
    """Runs the command line in `sys.argv`."""
    command_line.run(
        main,
        module=__name__,
        groups={
            "step": {"config": "=NAME[:PRESET]"},
            "measurement": {"steps": "=N", "trace": "=DIR"},
        },
        notes={
            "config fields": "--config.FIELD=VALUE sets a field; docs/configs.md lists "
            "the fields.",
        },
    )
