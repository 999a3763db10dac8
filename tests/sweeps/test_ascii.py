import os
import subprocess
import sys
from pathlib import Path

from isojax.sweeps.plan import SweepRun


def test_a_table_is_printed_in_ascii(tmp_path, fill):
    for seed in range(2):
        fill(tmp_path, SweepRun("byol", True, seed), linear=0.9 - 0.1 * seed)
    process = subprocess.run(
        [sys.executable, "-m", "isojax.sweep", "--tables_only"]
        + [f"--workdir={tmp_path}"],
        cwd=Path(__file__).parents[2],
        env=os.environ | {"PYTHONIOENCODING": "ascii", "LANG": "C"},
        capture_output=True,
        timeout=300,
    )
    assert process.returncode == 0, process.stderr
    assert b"0.850 +- 0.071" in process.stdout
    assert "0.850 ± 0.071" in (tmp_path / "table.md").read_text(encoding="utf-8")
