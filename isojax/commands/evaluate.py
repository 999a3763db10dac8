"""Evaluates a run's encoder, by default by linear readout and k-NN on frozen features.

    isojax evaluate --workdir=DIR [--protocol=linear,knn,finetune,online]
                    [--label_fractions=0.01,0.1,1] [--steps=all] [--per_class]
                    [--config.data.name=NAME ...] [--data_dir=DIR]

Prints a table beside a random encoder and raw pixels, and writes DIR/linear_eval.json
and the run's report, DIR/report.html.
With --config.data.FIELD it is measured on other images, and the file is named after
them; they are normalised as the encoder's own, since its weights expect that.
"""

import sys

from absl import flags
from ml_collections import config_flags

from isojax.commands import command_line
from isojax.errors import UsageError
from isojax.output import attempt, say

command_line.define_config(
    "base",
    "Measures on other images, such as --config.data.name=cifar100. The rest of the "
    "config is the run's.",
)
_WORKDIR = command_line.define_path(
    "workdir", "runs/digits-isoloss", "Directory of the run."
)
_PROTOCOL = flags.DEFINE_string(
    "protocol", "linear,knn", "Of linear, knn, finetune and online, comma separated."
)
_LABEL_FRACTIONS = flags.DEFINE_string(
    "label_fractions",
    "1",
    "Parts of the labelled training images, comma separated, such as 0.01,0.1,1.",
)
_STEPS = flags.DEFINE_string(
    "steps", None, "Checkpoints, comma separated, or all. By default the newest."
)
_PER_CLASS = flags.DEFINE_bool("per_class", False, "Prints each class's accuracy.")
_DATA_DIR = command_line.define_path(
    "data_dir",
    None,
    "Directory of the data sets. By default $TFDS_DATA_DIR or ~/tensorflow_datasets.",
)


def main() -> None:
    """Evaluates the run that the flags name."""
    if any(argument.split("=")[0] == "--config" for argument in sys.argv[1:]):
        raise UsageError("the config is the run's; leave --config=FILE out")
    # After the flags: JAX takes a second to import.
    from isojax import parallel
    from isojax.compilation import choose_kernels, keep_programs
    from isojax.evaluation import Options, evaluate_run
    from isojax.evaluation import options as given
    from isojax.evaluation.evaluate import format_table, result_file
    from isojax.progress import Progress
    from isojax.reporting.closing import announce_next_commands, announce_report

    task, tasks = parallel.launcher_task()
    if task > 0:
        return
    if tasks > 1:
        say(
            f"Evaluation runs in one process: the first of {tasks} tasks evaluates, "
            "the others exit."
        )

    choose_kernels()
    parallel.check_platform()
    keep_programs(_WORKDIR.value)
    overrides = config_flags.get_override_values(flags.FLAGS["config"])
    options = Options(
        given.parse_protocols(_PROTOCOL.value),
        given.parse_fractions(_LABEL_FRACTIONS.value),
        given.parse_steps(_STEPS.value),
        given.check_data_fields(overrides),
    )
    result = evaluate_run(
        _WORKDIR.value,
        data_dir=_DATA_DIR.value,
        options=options,
        progress=Progress(shown=True),
    )
    attempt(
        lambda: say(format_table(result, per_class=_PER_CLASS.value)),
        failure="the table was not printed",
    )
    say(f"Written to {_WORKDIR.value}/{result_file(result.get('data', {}))}")
    announce_report(_WORKDIR.value)
    announce_next_commands(_WORKDIR.value)


def run() -> None:
    """Runs the command line in `sys.argv`."""
    command_line.run(
        main,
        module=__name__,
        groups={
            "run": {"workdir": "=DIR", "steps": "=STEP,...", "data_dir": "=DIR"},
            "what is measured": {
                "protocol": "=NAME,...",
                "label_fractions": "=PART,...",
                "per_class": "",
                "config": ".data.FIELD=VALUE",
            },
        },
    )
