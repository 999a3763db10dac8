import csv
import io
import json
import math
from pathlib import Path

import pytest

from isojax.runs import layout
from isojax.runs.evaluation_result import RAW_PIXELS
from isojax.sweeps import diagnostics_table
from isojax.sweeps.plan import SweepRun
from isojax.sweeps.rows import Row
from isojax.sweeps.run_log import add_planned_runs, write_log_entry
from isojax.sweeps.summary import find_best, group_rows, mean_and_deviation
from isojax.sweeps.table import (
    as_csv,
    as_latex,
    as_markdown,
    escape_latex,
    write_tables,
)

ROOT = Path(__file__).parents[2]


def rows(method, *accuracies, ema="yes", status="finished"):
    return [
        Row(method, ema, seed, status, linear, linear, 20.0, 0.1, 100.0, 9, "test", "x")
        for seed, linear in enumerate(accuracies)
    ]


def test_mean_and_deviation_by_hand():
    assert mean_and_deviation([0.5]) == (0.5, None)
    mean, deviation = mean_and_deviation([1.0, 3.0])
    assert (mean, deviation) == (2.0, pytest.approx(math.sqrt(2)))


def test_the_table_by_hand():
    crash = Row("directpred", "no", 1, "crashed", seconds=3.0)
    table = as_markdown(
        rows("isoloss", 0.9, 0.8)
        + rows("byol", 0.95, ema="no")
        + rows("directpred", 0.3, ema="no", status="collapsed")
        + [crash, Row("directcopy", "no", 0, "diverged", seconds=5.0)],
        ["a note"],
    )
    assert table.splitlines() == [
        "| method | EMA | linear | 20-NN | participation ratio | seconds | runs |",
        "| --- | --- | --- | --- | --- | --- | --- |",
        "| SimSiam (= BYOL without EMA) | no | 0.950 | 0.950 | 20.0 | 100 | 1 |",
        "| DirectPred | no | 0.300 | 0.300 | 20.0 | 100 | 2 (1 collapsed, 1 crashed) |",
        "| DirectCopy | no | – | – | – | – | 1 (1 diverged) |",
        "| IsoLoss, cosine | yes | 0.850 ± 0.071 | 0.850 ± 0.071 | 20.0 ± 0.0 "
        "| 100 ± 0 | 2 |",
        "",
        "- a note",
        "- Means ± standard deviations (n - 1) over seeds. The means include "
        "collapsed runs. The means exclude diverged and crashed runs.",
    ]


def best(*methods):
    found = find_best(group_rows([row for group in methods for row in group]), "linear")
    return found and found.method


def test_the_best_is_bold_only_if_it_is_significant():
    # Deviations of 0.01 each: the standard error of a difference of means is 0.0082.
    low, middle, high = (0.80, 0.81, 0.82), (0.82, 0.83, 0.84), (0.84, 0.85, 0.86)
    assert best(rows("byol", *low), rows("isoloss", *high)) == "isoloss"
    assert best(rows("byol", *low), rows("isoloss", *middle)) is None
    assert (
        best(rows("byol", *low), rows("isoloss", *high), rows("directpred", *middle))
        is None
    )
    assert best(rows("byol", *low[:2]), rows("isoloss", *high)) is None
    assert best(rows("isoloss", *high)) is None
    assert best(rows("byol", *high), rows("isoloss", *high)) is None


def test_only_the_best_is_bold():
    table = rows("byol", 0.1, 0.1, 0.1) + rows("isoloss", 0.9, 0.9, 0.9)
    markdown, latex = as_markdown(table, []), as_latex(table, [])
    assert "| **0.900 ± 0.000** | **0.900 ± 0.000** | 20.0 ± 0.0 |" in markdown
    assert r"\textbf{0.900 $\pm$ 0.000} & \textbf{0.900 $\pm$ 0.000} & 20.0" in latex
    assert markdown.count("**") == 4 and "Bold: ahead of every other row" in markdown


def test_latex():
    latex = as_latex(rows("my_method", 0.9, 0.8), ["5 % of 3 & τ = 0.9"])
    assert latex.splitlines()[:7] == [
        r"% Needs \usepackage{booktabs}.",
        r"\begin{tabular}{llrrrrl}",
        r"\toprule",
        r"method & EMA & linear & 20-NN & participation ratio & seconds & runs \\",
        r"\midrule",
        r"my\_method & yes & 0.850 $\pm$ 0.071 & 0.850 $\pm$ 0.071 & 20.0 $\pm$ 0.0 & "
        r"100 $\pm$ 0 & 2 \\",
        r"\bottomrule",
    ]
    assert r"5 \% of 3 \& $\tau$ = 0.9\par" in latex


def test_every_special_character_is_escaped():
    assert escape_latex("a_b^c~d\\e") == (
        r"a\_b\textasciicircum{}c\textasciitilde{}d\textbackslash{}e"
    )
    assert escape_latex("&%$#{}–") == r"\&\%\$\#\{\}--"


def test_the_csv_has_a_line_a_run():
    crash = Row("byol", "no", 1, "crashed", seconds=3.0, folder="byol-noema-seed1")
    read = list(csv.DictReader(io.StringIO(as_csv([*rows("byol", 0.5), crash]))))
    assert [row["status"] for row in read] == ["finished", "crashed"]
    assert (read[0]["linear"], read[1]["linear"]) == ("0.5", "")


def test_tables_of_half_a_sweep(tmp_path, fill):
    done, crashed = SweepRun("isoloss", True, 0), SweepRun("isoloss", False, 0)
    begun, planned = SweepRun("byol", True, 0), SweepRun("byol", False, 0)
    add_planned_runs(tmp_path, [done, crashed])
    add_planned_runs(tmp_path, [begun, planned])
    fill(tmp_path, done)
    fill(tmp_path, begun, epochs=1, linear=None)
    write_log_entry(tmp_path, crashed, {"seconds": 3.0, "crashed": "boom"})
    table = write_tables(tmp_path)
    assert (tmp_path / "table.md").read_text() == table
    assert "| IsoLoss, cosine | yes | 0.900 | 0.800 | 20.0 | 12 | 1 |" in table
    assert "| IsoLoss, cosine | no | – | – | – | – | 1 (1 crashed) |" in table
    assert "BYOL" not in table
    assert "Not complete: 2 runs" in table
    for told in (
        "Data: digits, pretrained without labels on its split train. Recipe: 2 epochs,",
        "batch 64, SGD with learning rate 0.1 after a warmup",
        "its penalty chosen on a fifth",
        "accuracies on 1,000 images, split test",
        "Hardware: 2 CPU cores",
    ):
        assert told in table
    assert "isoloss,no,0,crashed" in (tmp_path / "runs.csv").read_text()
    assert r"\bottomrule" in (tmp_path / "table.tex").read_text()
    assert "| RankMe | – | – | 1 |" in (tmp_path / "diagnostics.md").read_text()


def test_one_core_is_singular(tmp_path, fill):
    run = SweepRun("isoloss", True, 0)
    add_planned_runs(tmp_path, [run])
    fill(tmp_path, run)
    file = tmp_path / run.name / layout.MACHINE_FILE
    file.write_text(json.dumps(json.loads(file.read_text()) | {"cpu_cores": 1}))
    assert "Hardware: 1 CPU core. The" in write_tables(tmp_path)


def test_raw_pixels_of_one_run_are_those_of_the_sweep(tmp_path, fill):
    runs = [SweepRun("isoloss", True, seed) for seed in range(3)]
    add_planned_runs(tmp_path, runs)
    for run in runs:
        fill(tmp_path, run)
    assert "raw pixels 0.500 and 0.400." in write_tables(tmp_path)
    for run in runs[1:]:
        leave_out_raw_pixels(tmp_path / run.name)
    assert "raw pixels 0.500 and 0.400." in write_tables(tmp_path)
    leave_out_raw_pixels(tmp_path / runs[0].name)
    assert "raw pixels" not in write_tables(tmp_path)


def leave_out_raw_pixels(folder):
    file = folder / layout.RESULT_FILE
    content = json.loads(file.read_text())
    kept = {k: v for k, v in content.items() if not k.startswith(RAW_PIXELS)}
    file.write_text(json.dumps(kept))


def test_the_table_of_diagnostics_by_hand():
    table = diagnostics_table.as_markdown(
        [
            row._replace(
                effective_rank=rank,
                nesum=2.0,
                participation_ratio=None,
                lidar=None if number == 3 else -rank,
            )
            for number, (row, rank) in enumerate(
                zip(rows("byol", 0.6, 0.7, 0.8, 0.9), (1.0, 2.0, 4.0, 3.0), strict=True)
            )
        ]
        + [Row("byol", "no", 0, "crashed", effective_rank=9.0)]
    )
    # Squared differences of the ranks: 0, 0, 1, 1; 1 - 6 * 2 / (4 * 15) = 0.8.
    assert "| RankMe | 0.80 | 0.2 | 4 |" in table
    assert "| α-ReQ | – | – | 0 |" in table
    assert "| NESum | – | – | 4 |" in table  # constant
    assert "| LiDAR | – | – | 3 |" in table


def test_fields_that_differ_between_the_targets_are_noted_for_both(tmp_path, fill):
    for ema in (True, False):
        fill(tmp_path, SweepRun("isoloss", ema, 0))
    assert "learning rate 0.1 (EMA) or 0.05 (no EMA) after" in write_tables(tmp_path)


def test_the_readme_s_table_is_that_of_its_runs():
    def number(text):
        return float(text) if text else None

    with (ROOT / "results" / "digits.csv").open() as file:
        runs = [
            Row(**row | {name: number(row[name]) for name in Row._fields[4:9]})
            for row in csv.DictReader(file)
        ]
    lines = [
        line for line in as_markdown(runs, []).splitlines() if line.startswith("| ")
    ]
    for text in ("README.md", "results/digits.md"):
        assert "\n".join(lines[2:]) in (ROOT / text).read_text()
