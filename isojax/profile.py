"""Tells what a training step costs, on random images.

python -m isojax.profile [--config=configs/NAME.py[:PRESET]] [--steps=10]
                         [--trace=DIR] [--config.FIELD=VALUE ...]
"""

from pathlib import Path

from absl import flags

from isojax import cli

_CONFIG = cli.define_config(
    str(Path(__file__).parents[1] / "configs" / "digits.py"),
    "Config file, and a preset after a colon.",
)
_STEPS = flags.DEFINE_integer("steps", 10, "Timed steps.")
_TRACE = cli.define_path(
    "trace", None, "Folder for a trace of the steps, which TensorBoard and XProf show."
)


def main() -> None:
    """Prints the costs of the step that the flags describe."""
    config = cli.config_to_train(_CONFIG)
    # After the flags: JAX takes a second to import.
    from isojax import parallel
    from isojax.compilation import choose_kernels, keep_programs

    choose_kernels()  # before JAX computes
    parallel.check_platform()
    keep_programs("runs/profile")  # the program is compiled to be read, and to be run
    from isojax.training.profiling import describe_profile, profile_step

    profile = profile_step(config, steps=_STEPS.value, trace=_TRACE.value)
    print(describe_profile(profile, config))
    if _TRACE.value:
        print(
            f"Traced to {_TRACE.value}: pip install xprof, then "
            f"tensorboard --logdir={_TRACE.value}"
        )


if __name__ == "__main__":
    cli.run(
        main,
        groups={
            "step": {"config": "=FILE[:PRESET]"},
            "measurement": {"steps": "=N", "trace": "=DIR"},
        },
        notes={
            "config fields": "--config.FIELD=VALUE sets one. configs/base.py lists "
            "them, and docs/configs.md.",
        },
    )
