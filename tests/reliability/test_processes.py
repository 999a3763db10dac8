"""Two processes that train together: what they agree on and who writes."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
SCRIPT = """
import json, sys
from pathlib import Path

flags = dict(argument[2:].split("=") for argument in sys.argv[1:])
number, folder = int(flags["process_id"]), Path(__file__).parent
from isojax import data_parallel, processes
processes.connect(flags["coordinator"], int(flags["num_processes"]), number)

from contextlib import ExitStack
import jax, numpy as np
from isojax.configs import digits
from isojax.data import load_dataset
from isojax.training.settings import image_source
from isojax.errors import UsageError
from isojax.training.agreement import check_agreement
processes._GATHERED_BYTES = 64  # two rows at a time
from isojax.training.checkpoint import Checkpoints
from isojax.training.probe import init_probe
from isojax.training.state import TrainState
from isojax.runs.folder import open_run_folder

def refusal(action):
    try:
        return action()
    except UsageError as error:
        return str(error)

def refuse():
    raise UsageError("the first says no")

def state(step):
    key = jax.random.key(step)
    return TrainState(np.int32(step), {"w": jax.random.normal(key, (50, 50))}, {}, {},
                      (), np.eye(3, dtype=np.float32), init_probe(3, 2), key)

def opened():
    with ExitStack() as held:
        processes.in_first_process(
            lambda: held.enter_context(open_run_folder(folder / "run", config))
        )
        return (folder / "run" / "config.json").exists()

said = {"texts": processes.gather("a" * (number + 1)),
        "rows": processes.gather_rows(np.full((3 * number, 2), 0.1 + number)).tolist(),
        "sum": float(processes.add(np.float64(0.1 + number))),
        "any": [processes.any_process(number == 1), processes.any_process(False)],
        "refused": refusal(lambda: processes.in_first_process(refuse))}

config = digits.get_config().unlock()
dataset = load_dataset(image_source(config.data))
said["agree"] = refusal(lambda: check_agreement(config, dataset))
said["opened"] = refusal(opened)
with Checkpoints(folder / "run") as checkpoints:
    for step in (1, 2):
        checkpoints.save(data_parallel.replicate(state(step)))
checkpoints = Checkpoints(folder / "run")
processes.gather("saved")
if number == 0:
    (folder / "run" / "checkpoints" / "2" / "checksums.json").write_text("{}")
processes.gather("damaged")
restored = data_parallel.replicate(checkpoints.restore(state(0), set_aside=True))
said["restored"] = [
    int(restored.step),
    bool((np.asarray(restored.params["w"]) == state(1).params["w"]).all()),
    bool((jax.random.bits(restored.key) == jax.random.bits(state(1).key)).all()),
]
config.epochs += number
said["other config"] = refusal(lambda: check_agreement(config, dataset))
config.epochs -= number
dataset.pretrain.images[0] += number
dataset.pretrain.images[0] -= number
here = data_parallel.local_device_count()
data_parallel.local_device_count = lambda: here + number
said["other devices"] = refusal(lambda: check_agreement(config, dataset))
data_parallel.local_device_count = lambda: here
dataset.pretrain.images[0] += number
said["other data"] = refusal(lambda: check_agreement(config, dataset))
(folder / f"{number}.json").write_text(json.dumps(said))
"""


@pytest.fixture(scope="module")
def said(tmp_path_factory):
    """What each of the processes found."""
    folder = tmp_path_factory.mktemp("processes")
    (folder / "script.py").write_text(SCRIPT)
    ended = subprocess.run(
        [sys.executable, "-m", "isojax.launch", "--processes=2", "--"]
        + [str(folder / "script.py")],
        cwd=ROOT,
        env={
            "PYTHONPATH": str(ROOT),
            "JAX_PLATFORMS": "cpu",
            "https_proxy": "http://127.0.0.1:9",  # nothing listens there
            "no_proxy": "example.org",
        },
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert ended.returncode == 0, ended.stderr
    folders = {path.name for path in (folder / "run" / "checkpoints").iterdir()}
    assert folders == {"1", "2.damaged"}
    assert ended.stdout.count("The checkpoint of step 2 in") == 1
    return [json.loads((folder / f"{n}.json").read_text()) for n in range(2)]


def test_gather_returns_the_same_in_both_processes(said):
    for process in said:
        assert process["texts"] == ["a", "aa"]
        assert process["any"] == [True, False]
        assert process["refused"] == "the first says no"


def test_rows_of_different_number_are_gathered_without_rounding(said):
    for process in said:
        assert process["rows"] == [[1.1, 1.1]] * 3
        assert process["sum"] == 0.1 + 1.1


def test_one_opens_the_folder_for_both(said):
    assert [process["opened"] for process in said] == [True, True]


def test_both_restore_the_same_older_checkpoint(said):
    assert [process["restored"] for process in said] == [[1, True, True]] * 2


def test_another_config_or_other_data_is_refused_in_both(said):
    for process in said:
        assert process["agree"] is None
        assert "config.epochs (51, not 50)" in process["other config"]
        assert "process 1 loaded different images" in process["other data"]
        assert "process 1 has 2 devices and process 0 has 1" in process["other devices"]
