import os
import subprocess
import sys

import pytest

from isojax.errors import UsageError
from isojax.sweeps import job_devices
from isojax.sweeps.job_devices import divide_devices, use_cores

VISIBLE = "CUDA_VISIBLE_DEVICES"


def gpus(jobs, **environment):
    return [job.environment.get(VISIBLE) for job in divide_devices(jobs, environment)]


@pytest.fixture
def cores(monkeypatch):
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: set(range(8)), raising=False)


def test_jobs_divide_the_gpus_by_their_names():
    names = "GPU-a,GPU-b,2,3"
    assert gpus(2, CUDA_VISIBLE_DEVICES=names) == ["GPU-a,GPU-b", "2,3"]
    assert gpus(4, CUDA_VISIBLE_DEVICES=names) == names.split(",")
    assert gpus(1, CUDA_VISIBLE_DEVICES=names) == [None]  # all of them


def test_tasks_of_one_machine_divide_the_gpus_first():
    task = {
        "SLURM_STEP_NUM_TASKS": "2",
        "SLURM_STEP_TASKS_PER_NODE": "2",
        "SLURM_LOCALID": "1",
        "SLURM_GPUS_ON_NODE": "4",
    }
    assert gpus(1, CUDA_VISIBLE_DEVICES="0,1,2,3", **task) == ["2,3"]
    assert gpus(2, CUDA_VISIBLE_DEVICES="0,1,2,3", **task) == ["2", "3"]


@pytest.mark.parametrize("jobs", [-1, 0, 3, 4])
def test_jobs_that_cannot_divide_the_gpus_are_refused(jobs):
    with pytest.raises(UsageError, match=f"^--jobs={jobs}: "):
        divide_devices(jobs, {VISIBLE: "0,1"})


def test_jobs_divide_the_cores_and_compute_as_if_they_had_all(cores):
    assert divide_devices(3, {VISIBLE: ""}) == [
        ({"NPROC": "8"}, {0, 1}),
        ({"NPROC": "8"}, {2, 3, 4}),
        ({"NPROC": "8"}, {5, 6, 7}),
    ]
    assert divide_devices(2, {VISIBLE: "", "NPROC": "1"})[1] == (
        {"NPROC": "1"},
        {4, 5, 6, 7},
    )
    assert divide_devices(1, {VISIBLE: ""}) == [({}, None)]
    assert divide_devices(9, {VISIBLE: ""}) == [({}, None)] * 9


def test_jobs_cannot_divide_a_tpu(tmp_path, monkeypatch):
    monkeypatch.setattr(job_devices, "_DEVICES", tmp_path)
    monkeypatch.setattr("importlib.util.find_spec", lambda name: name)
    assert len(divide_devices(2, {VISIBLE: ""})) == 2
    (tmp_path / "accel0").touch()
    with pytest.raises(UsageError, match="^--jobs=2: "):
        divide_devices(2, {VISIBLE: ""})
    assert len(divide_devices(2, {VISIBLE: "", "JAX_PLATFORMS": "cpu"})) == 2
    assert len(divide_devices(1, {VISIBLE: ""})) == 1


@pytest.mark.skipif(
    not hasattr(os, "sched_setaffinity"), reason="no processor affinity"
)
def test_a_process_uses_the_cores_of_its_job():
    before = os.sched_getaffinity(0)
    code = "import os; print(os.sched_getaffinity(0))"
    with use_cores(frozenset([max(before)])):
        out = subprocess.check_output([sys.executable, "-c", code], text=True)
    assert out.strip() == str({max(before)})
    assert os.sched_getaffinity(0) == before
