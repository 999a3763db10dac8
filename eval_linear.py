"""Evaluates a run's encoder by a linear classifier and k-NN on its frozen features.

    python eval_linear.py --workdir=DIR [--data_dir=DIR]

Prints a table beside a random encoder and raw pixels, and writes DIR/linear_eval.json
and the run's report, DIR/report.html.
"""

from absl import flags

from isojax import cli

_WORKDIR = flags.DEFINE_string(
    "workdir", "runs/digits-isoloss", "Folder of the run, as given to train.py."
)
_DATA_DIR = flags.DEFINE_string(
    "data_dir",
    None,
    "Folder of the data sets. By default $TFDS_DATA_DIR or ~/tensorflow_datasets.",
)


def main() -> None:
    """Evaluates the run that the flags name."""
    from isojax.evaluation import evaluate_run  # after the flags: JAX takes a second
    from isojax.evaluation.protocol import RESULT_FILE, format_table
    from isojax.reporting.report import next_commands, tell_report

    result = evaluate_run(_WORKDIR.value, data_dir=_DATA_DIR.value)
    print(format_table(result))
    print(f"Written to {_WORKDIR.value}/{RESULT_FILE}")
    tell_report(_WORKDIR.value)
    print(next_commands(_WORKDIR.value))


if __name__ == "__main__":
    cli.run(main)
