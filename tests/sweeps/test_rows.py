import json

import pytest

from isojax.errors import UsageError
from isojax.runs import layout
from isojax.sweeps.compatibility import check_one_sweep, check_same_sweep
from isojax.sweeps.plan import SweepRun
from isojax.sweeps.rows import has_raw_pixels, part_done, read_row, runs_in
from isojax.sweeps.run_log import write_log_entry

RUN = SweepRun("isoloss", True, 0)


def test_the_row_of_a_finished_run_is_complete(tmp_path, fill):
    fill(tmp_path, RUN)
    row = read_row(tmp_path, RUN)
    assert row._asdict() == {
        "method": "isoloss",
        "ema": "yes",
        "seed": 0,
        "status": "finished",
        "linear": 0.9,
        "knn_20": 0.8,
        "participation_ratio": 20.0,
        "std": 0.12,
        "seconds": 12.3,
        "steps": 124,
        "split": "test",
        "folder": "isoloss-ema-seed0",
        "effective_rank": 30.0,
        "alpha_req": 1.5,
        "nesum": 4.0,
        "lidar": None,
    }


def test_raw_pixels_are_found_if_a_run_has_measured_the_same_images(tmp_path, fill):
    first, second, smaller = (RUN._replace(seed=seed) for seed in range(3))
    measured = fill(tmp_path, first)
    alike = fill(tmp_path, second, linear=None)
    other = fill(tmp_path, smaller, linear=None, fields={"data.resolution": 14})
    assert has_raw_pixels(alike)
    assert not has_raw_pixels(other)
    (measured / layout.RESULT_FILE).write_text("{")
    assert not has_raw_pixels(alike)


@pytest.mark.parametrize("spread", [{"ratio": 1.4}, {"std": 0.012}])
def test_a_collapsed_run_keeps_its_accuracies(tmp_path, fill, spread):
    fill(tmp_path, RUN, **spread)
    row = read_row(tmp_path, RUN)
    assert (row.status, row.linear) == ("collapsed", 0.9)


def test_a_run_stopped_at_its_collapse_has_ended(tmp_path, fill):
    run = SweepRun("directpred", False, 0)
    stops = {"epochs": 9, "on_collapse": "stop"}
    fill(tmp_path, run, linear=None, ratio=1.0, fields=stops)
    assert read_row(tmp_path, run).status == "collapsed"
    fill(tmp_path, RUN, linear=None, ratio=1.0, fields={"epochs": 9})
    assert read_row(tmp_path, RUN).status == "unfinished"


def test_runs_without_an_end_are_unfinished(tmp_path, fill):
    assert read_row(tmp_path, RUN).status == "unfinished"
    for seed, state in enumerate(({"epochs": 1}, {"linear": None}, {"epochs": 0})):
        fill(tmp_path, run := RUN._replace(seed=seed), **state)
        assert read_row(tmp_path, run).status == "unfinished"


@pytest.mark.parametrize("lack", [{"step": 62}, {"knn_accuracy": {}}])
def test_a_run_without_a_matching_evaluation_is_unfinished(tmp_path, fill, lack):
    path = fill(tmp_path, RUN) / layout.RESULT_FILE
    path.write_text(json.dumps(json.loads(path.read_text()) | lack))
    assert read_row(tmp_path, RUN).status == "unfinished"


def test_a_run_of_limited_steps_ends_with_them(tmp_path, fill):
    fill(tmp_path, RUN, epochs=1, fields={"steps": 62, "epochs": 50})
    assert read_row(tmp_path, RUN).status == "finished"


def test_failures(tmp_path, fill):
    (fill(tmp_path, RUN, linear=None) / "not_finite.json").write_text("{}")
    row = read_row(tmp_path, RUN)
    assert (row.status, row.steps, row.std, row.linear) == ("diverged", 124, None, None)
    other = RUN._replace(seed=1)
    write_log_entry(tmp_path, other, {"seconds": 3.0, "crashed": "boom"})
    assert read_row(tmp_path, other).status == "crashed"
    assert runs_in(tmp_path) == [RUN, other]


def test_part_done_counts_epochs_or_steps(tmp_path, fill, config_of):
    assert part_done(tmp_path, RUN, config_of(RUN)) == 0
    folder = fill(tmp_path, RUN, epochs=1)
    assert part_done(tmp_path, RUN, config_of(RUN)) == 0.5
    assert part_done(tmp_path, RUN, config_of(RUN, steps=100)) == 0.62
    with (folder / "metrics.jsonl").open("a") as file:
        file.write('{"step": 12')  # half a line
    assert part_done(tmp_path, RUN, config_of(RUN)) == 0


def test_another_sweep_in_the_folder_is_refused(tmp_path, fill, config_of):
    fill(tmp_path, SweepRun("byol", False, 3))
    fill(tmp_path, RUN)
    check_same_sweep(tmp_path, config_of)
    message = (
        r"epochs \(stored 2, current 7\), "
        r"optimizer.learning_rate \(stored 0.05, current 1"
    )
    with pytest.raises(UsageError, match=message):
        changed = {"epochs": 7, "optimizer.learning_rate": 1.0}
        check_same_sweep(tmp_path, lambda run: config_of(run, **changed))


@pytest.mark.parametrize(
    ("run", "fields", "named"),
    [
        (
            SweepRun("byol", True, 0),
            {"data.name": "cifar10"},
            r"data.name \(byol-ema-seed0 cifar10, isoloss-\w+-seed0 digits",
        ),
        (
            RUN._replace(seed=1),
            {"optimizer.momentum": 0.5},
            r"optimizer.momentum \(\S+ 0.9, \S+ 0.5",
        ),
    ],
)
def test_runs_that_do_not_belong_together_get_no_table(
    tmp_path, fill, run, fields, named
):
    fill(tmp_path, RUN)
    fill(tmp_path, SweepRun("isoloss", False, 0))  # has another learning rate
    fill(tmp_path, SweepRun("isoloss", False, 1))
    check_one_sweep(tmp_path)
    fill(tmp_path, run, fields=fields)
    with pytest.raises(UsageError, match=named):
        check_one_sweep(tmp_path)
