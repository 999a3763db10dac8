"""Evaluates a run's encoder, by default with a linear readout and k-NN.

    isojax evaluate --workdir=DIR [--protocol=linear,knn,finetune,online]
                    [--label_fractions=0.01,0.1,1] [--steps=all] [--per_class]
                    [--[no]raw_pixels] [--config.data.name=NAME ...]
                    [--data_dir=DIR]

Prints the accuracies together with those of a random encoder and of raw pixels, and
writes DIR/linear_eval.json and the report DIR/report.html. --config.data.FIELD selects
other images. They are normalised with the mean and std of the encoder's own images, and
the name of the result's file contains the fields. All devices compute, and several
processes if they are started like those of a training run.
"""

import sys

from absl import flags
from ml_collections import config_flags

from isojax.commands import command_line, config_flag, path_flag, process_flags
from isojax.errors import UsageError
from isojax.evaluation.protocols import DEFAULT_PROTOCOLS, PROTOCOLS
from isojax.output import print_line, run_optional

config_flag.define_config(
    "base",
    "Evaluate on other images, such as --config.data.name=cifar100. All other fields "
    "are those of the run.",
)
_WORKDIR = path_flag.define_path(
    "workdir", "runs/digits-isoloss", "Directory or URL of the run."
)
_PROTOCOL = flags.DEFINE_string(
    "protocol",
    ",".join(DEFAULT_PROTOCOLS),
    "Comma-separated protocols: "
    + "; ".join(f"{name}, {protocol.summary}" for name, protocol in PROTOCOLS.items())
    + ".",
)
_LABEL_FRACTIONS = flags.DEFINE_string(
    "label_fractions",
    "1",
    "Comma-separated fractions of the labelled training images, such as 0.01,0.1,1.",
)
_STEPS = flags.DEFINE_string(
    "steps",
    None,
    "Comma-separated steps of checkpoints, or all. Default: the newest checkpoint.",
)
_PER_CLASS = flags.DEFINE_bool("per_class", False, "Print the accuracy on each class.")
_RAW_PIXELS = flags.DEFINE_bool(
    "raw_pixels",
    None,
    "Measure the baseline of raw pixels, or with --noraw_pixels do not. Default: "
    "measure it unless the pixels of the training images are more than 268 million "
    "values.",
)
_DATA_DIR = path_flag.define_path(
    "data_dir",
    None,
    "Directory of the data sets, or a URL of prepared ones such as gs://bucket/data. "
    "Default: $TFDS_DATA_DIR or ~/tensorflow_datasets.",
)
process_flags.define_process_flags()


def main() -> None:
    """Evaluates a run with the settings of the flags."""
    if any(argument.split("=")[0] == "--config" for argument in sys.argv[1:]):
        raise UsageError(
            "--config=FILE cannot be used: the config is that of the run. Remove it; "
            "--config.data.FIELD=VALUE chooses other images"
        )
    # After the flags: JAX takes a second to import.
    from isojax import processes
    from isojax.compilation import configure_cpu, enable_compilation_cache
    from isojax.evaluation import Options, evaluate_run
    from isojax.evaluation import options as given
    from isojax.evaluation.evaluate import format_table
    from isojax.progress import Progress
    from isojax.reporting.closing import announce_next_commands, announce_report
    from isojax.runs.evaluation_result import result_file

    configure_cpu()
    process_flags.connect_processes()
    enable_compilation_cache(_WORKDIR.value)
    overrides = config_flags.get_override_values(flags.FLAGS["config"])
    options = Options(
        given.parse_protocols(_PROTOCOL.value),
        given.parse_fractions(_LABEL_FRACTIONS.value),
        given.parse_steps(_STEPS.value),
        given.check_data_fields(overrides),
        _RAW_PIXELS.value,
    )
    is_first = processes.is_first_process()
    with processes.exit_immediately_on_failure():
        result = evaluate_run(
            _WORKDIR.value,
            data_dir=_DATA_DIR.value,
            options=options,
            progress=Progress(shown=is_first),
        )
    if not is_first:
        return
    run_optional(
        lambda: print_line(format_table(result, per_class=_PER_CLASS.value)),
        failure="the table was not printed",
    )
    print_line(f"Written to {_WORKDIR.value}/{result_file(result.get('data', {}))}")
    announce_report(_WORKDIR.value)
    announce_next_commands(_WORKDIR.value)


def run() -> None:
    """Runs the command line in `sys.argv`."""
    command_line.run(
        main,
        module=__name__,
        groups={
            "run": {"workdir": "=DIR", "steps": "=STEP,...", "data_dir": "=DIR"},
            "measurement": {
                "protocol": "=NAME,...",
                "label_fractions": "=FRACTION,...",
                "per_class": "",
                "raw_pixels": "",
                "config": ".data.FIELD=VALUE",
            },
            **process_flags.GROUP,
        },
    )
