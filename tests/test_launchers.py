"""What is read from the environments of Slurm, Open MPI and CUDA."""

import pytest

from isojax import launchers
from isojax.errors import UsageError
from isojax.launchers import LauncherTask, launcher_task, local_gpus, visible_gpus

EIGHT = "0,1,2,3,4,5,6,7"
NODE = {"CUDA_VISIBLE_DEVICES": EIGHT, "SLURM_GPUS_ON_NODE": "8"}
HALF = {"CUDA_VISIBLE_DEVICES": "4,5,6,7", "SLURM_GPUS_ON_NODE": "8"}


@pytest.mark.parametrize(
    ("environment", "task"),
    [
        ({}, LauncherTask()),
        ({"SLURM_JOB_ID": "1", "SLURM_PROCID": "0"}, LauncherTask()),
        (
            {
                "SLURM_STEP_NUM_TASKS": "7",
                "SLURM_PROCID": "5",
                "SLURM_LOCALID": "1",
                "SLURM_NODEID": "2",
                "SLURM_STEP_TASKS_PER_NODE": "2(x3),1",
            },
            LauncherTask(rank=5, tasks=7, local_rank=1, local_tasks=2),
        ),
        (
            {
                "SLURM_STEP_NUM_TASKS": "7",
                "SLURM_PROCID": "6",
                "SLURM_LOCALID": "0",
                "SLURM_NODEID": "3",
                "SLURM_STEP_TASKS_PER_NODE": "2(x3),1",
            },
            LauncherTask(rank=6, tasks=7, local_rank=0, local_tasks=1),
        ),
        (
            {
                "OMPI_COMM_WORLD_SIZE": "4",
                "OMPI_COMM_WORLD_RANK": "3",
                "OMPI_COMM_WORLD_LOCAL_RANK": "1",
                "OMPI_COMM_WORLD_LOCAL_SIZE": "2",
            },
            LauncherTask(rank=3, tasks=4, local_rank=1, local_tasks=2),
        ),
    ],
)
def test_place_among_the_tasks(environment, task):
    assert launcher_task(environment) == task


@pytest.mark.parametrize(
    ("environment", "count"),
    [
        ({"CUDA_VISIBLE_DEVICES": EIGHT}, 8),
        ({"CUDA_VISIBLE_DEVICES": "GPU-8932f937,MIG-d372c3"}, 2),
        ({"CUDA_VISIBLE_DEVICES": ""}, 0),
        ({"CUDA_VISIBLE_DEVICES": "3,-1,4"}, 1),
        ({"CUDA_VISIBLE_DEVICES": "NoDevFiles"}, 0),
        ({"CUDA_VISIBLE_DEVICES": "0", "JAX_PLATFORMS": "cpu"}, 0),
        ({"CUDA_VISIBLE_DEVICES": "0", "JAX_PLATFORMS": "cuda,cpu"}, 1),
        ({}, 3),  # without the variable, all GPUs of the machine
    ],
)
def test_visible_gpus_are_counted(environment, count, tmp_path, monkeypatch):
    monkeypatch.setattr(launchers, "_NVIDIA_GPUS", tmp_path)
    for number in range(3):
        (tmp_path / f"0000:0{number}:00.0").mkdir()
    assert visible_gpus(environment) == count


@pytest.mark.parametrize(
    ("local", "environment", "gpus"),
    [
        # srun --ntasks-per-node=1 --gpus-per-node=8
        ((0, 1), NODE, range(8)),
        # srun --ntasks-per-node=2 --gpus-per-node=8: both see all
        (
            (1, 2),
            {"CUDA_VISIBLE_DEVICES": EIGHT, "SLURM_GPUS_ON_NODE": "8"},
            (4, 5, 6, 7),
        ),
        # srun --ntasks-per-node=8 --gpus-per-task=1: each sees its own as number 0
        ((5, 8), NODE | {"CUDA_VISIBLE_DEVICES": "0"}, (0,)),
        # srun --ntasks-per-node=2 --gpus-per-task=4
        (
            (1, 2),
            {"CUDA_VISIBLE_DEVICES": "4,5,6,7", "SLURM_GPUS_ON_NODE": "8"},
            range(4),
        ),
        # mpirun, and mpirun with a script that sets one GPU for each rank
        ((2, 4), {"CUDA_VISIBLE_DEVICES": EIGHT}, (4, 5)),
        ((2, 4), {"CUDA_VISIBLE_DEVICES": "2"}, (0,)),
        # CPU, and a choice of the user
        ((1, 2), {"CUDA_VISIBLE_DEVICES": ""}, None),
        ((1, 2), {"CUDA_VISIBLE_DEVICES": "0,1", "JAX_LOCAL_DEVICE_IDS": "0,1"}, None),
    ],
)
def test_gpus_of_a_process(local, environment, gpus):
    task = LauncherTask(local_rank=local[0], local_tasks=local[1])
    found = local_gpus(task, environment)
    assert found == (None if gpus is None else list(gpus))


@pytest.mark.parametrize(("gpus", "tasks"), [(8, 3), (2, 4)])
def test_idle_and_shared_gpus_are_refused(gpus, tasks):
    environment = {"CUDA_VISIBLE_DEVICES": ",".join(map(str, range(gpus)))}
    with pytest.raises(UsageError, match=f"{tasks} processes .* {gpus} GPU"):
        local_gpus(LauncherTask(local_tasks=tasks), environment)


def test_steps_of_a_job_get_different_ports():
    ports = {
        launchers.slurm_port({"SLURM_JOB_ID": job, "SLURM_STEP_ID": str(step)})
        for job in ("123456",)
        for step in range(4096)
    }
    assert len(ports) == 4096
    assert min(map(int, ports)) == 61440 and max(map(int, ports)) == 65535
    assert launchers.slurm_port({"SLURM_JOB_ID": "1"}) is None
