"""Measures the cost of a training step on random images.

    isojax profile [--config=NAME[:PRESET]] [--steps=10] [--trace=DIR]
                   [--target=TARGET] [--json=FILE] [--config.FIELD=VALUE ...]

Prints the operations, bytes, collectives, memory and time of one step. With --target
the step is compiled for accelerators that this machine need not have, and not run.
"""

import json
from pathlib import Path

from absl import flags
from ml_collections import ConfigDict

from isojax.commands import command_line, config_flag, path_flag
from isojax.errors import UsageError
from isojax.targets.environment import prepare
from isojax.targets.names import parse_target

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
_TARGET = flags.DEFINE_string(
    "target",
    None,
    "Accelerators to compile for: tpu:GENERATION:SLICE, such as tpu:v5e:2x2, or "
    "gpu:h100:COUNT.",
)
_JSON = path_flag.define_path(
    "json", None, "File in which the costs that --target finds are written."
)


def main() -> None:
    """Profiles a step with the settings of the flags."""
    config = config_flag.config_to_train(_CONFIG)
    if _TARGET.value is not None:
        _estimate(config, _TARGET.value)
    else:
        _measure(config)


def _estimate(config: ConfigDict, name: str) -> None:
    for flag in (_STEPS, _TRACE):
        if flag.present:
            raise UsageError(
                f"--{flag.name} has no effect with --target, because the step is not "
                "run; remove one of them"
            )
    target = parse_target(name)
    if _JSON.value is not None and not Path(_JSON.value).absolute().parent.is_dir():
        raise UsageError(f"--json={_JSON.value}: its folder does not exist; create it")
    prepare(target)
    # After the environment of the target.
    from isojax.targets.devices import target_devices
    from isojax.training.device_memory import check_memory
    from isojax.training.estimate_text import describe_estimate
    from isojax.training.step_estimate import estimate_step

    estimate = estimate_step(config, target_devices(target))
    print(describe_estimate(estimate))
    if _JSON.value is not None:
        Path(_JSON.value).write_text(json.dumps(estimate.as_json(), indent=2))
    check_memory(estimate.costs.memory, estimate.costs.device, config.precision)


def _measure(config: ConfigDict) -> None:
    if _JSON.value is not None:
        raise UsageError("--json needs --target; add it or remove --json")
    # After the flags: JAX takes a second to import.
    from isojax import processes
    from isojax.compilation import configure_cpu, enable_compilation_cache

    configure_cpu()  # before JAX computes
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
            "compilation": {"target": "=TARGET", "json": "=FILE"},
        },
        notes={
            "config fields": "--config.FIELD=VALUE sets a field; docs/configs.md lists "
            "the fields.",
        },
    )
