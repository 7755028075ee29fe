"""What srun and other batch systems say, in their variables."""

import os
import socket

import pytest

from finetui.engine.distributed.batch_job import Job, job_from, restarts_left
from finetui.engine.distributed.slurm import adopt_srun
from finetui.engine.errors import BadInput

# As a task of `srun` on two nodes of three and two tasks has them.
TASK = {
    "SLURM_JOB_ID": "4711",
    "SLURM_STEP_ID": "2",
    "SLURM_NTASKS": "5",
    "SLURM_PROCID": "4",
    "SLURM_LOCALID": "1",
    "SLURM_NODEID": "1",
    "SLURM_NNODES": "2",
    "SLURM_TASKS_PER_NODE": "3,2",
    "SLURM_JOB_NODELIST": "gpu[03-04]",
}


def test_a_task_of_srun_is_a_rank() -> None:
    environment = dict(TASK)
    adopt_srun(environment)
    told = {name: environment[name] for name in environment if name not in TASK}
    assert told == {
        "RANK": "4",
        "WORLD_SIZE": "5",
        "LOCAL_RANK": "1",
        "LOCAL_WORLD_SIZE": "2",
        "GROUP_RANK": "1",
        "MASTER_ADDR": "gpu03",
        "MASTER_PORT": str(20_000 + (7 * 4711 + 2) % 20_000),
    }


@pytest.mark.parametrize(
    "changes",
    [
        {"SLURM_STEP_ID": None},  # a batch script itself
        {"SLURM_NTASKS": "1"},
        {"SLURM_STEP_NUM_TASKS": "1"},  # a step of one task in a job of five
        {"RANK": "0"},  # torchrun inside the task
    ],
)
def test_what_is_no_task_of_several_stays_as_it_is(changes: dict[str, str | None]) -> None:
    environment = {name: value for name, value in (TASK | changes).items() if value is not None}
    before = dict(environment)
    adopt_srun(environment)
    assert environment == before


@pytest.mark.parametrize(
    ("nodes", "first"),
    [("gpu[03-04]", "gpu03"), ("a,b", "a"), ("r1n[7,9-11]-ib,x", "r1n7-ib"), ("node-1,node-2", "node-1")],
)
def test_rank_0_is_on_the_first_node(nodes: str, first: str) -> None:
    environment = TASK | {"SLURM_STEP_NODELIST": nodes}
    adopt_srun(environment)
    assert environment["MASTER_ADDR"] == first


def test_what_the_user_says_of_the_meeting_place_holds() -> None:
    environment = TASK | {"MASTER_ADDR": "head", "MASTER_PORT": "99", "SLURM_TASKS_PER_NODE": "4(x2)"}
    adopt_srun(environment)
    assert (environment["MASTER_ADDR"], environment["MASTER_PORT"]) == ("head", "99")
    assert environment["LOCAL_WORLD_SIZE"] == "4"


@pytest.mark.parametrize(
    ("name", "value"), [("SLURM_PROCID", "x"), ("SLURM_PROCID", ""), ("SLURM_STEP_NUM_TASKS", "-")]
)
def test_a_variable_that_cannot_be_true_is_named(name: str, value: str) -> None:
    with pytest.raises(BadInput, match=name):
        adopt_srun(TASK | {name: value})


def test_a_job_of_slurm() -> None:
    environment = {"SLURM_JOB_ID": "4711", "SLURM_JOB_END_TIME": "1800000000", "SLURM_RESTART_COUNT": "2"}
    assert job_from(environment) == Job(system="SLURM", id="4711", ends=1_800_000_000.0, restarts=2)
    assert job_from({"SLURM_JOB_ID": "4711"}) == Job(system="SLURM", id="4711")


def test_jobs_of_other_systems() -> None:
    assert job_from({"PBS_JOBID": "7.head"}) == Job(system="PBS", id="7.head")
    assert job_from({"LSB_JOBID": "7", "LSB_RESTART": "Y"}) == Job(system="LSF", id="7", restarts=1)
    grid_engine = {"JOB_ID": "7", "SGE_TASK_ID": "undefined", "RESTARTED": "1"}
    assert job_from(grid_engine) == Job(system="Grid Engine", id="7", restarts=1)
    assert job_from({"JOB_ID": "7"}) is None
    assert job_from({}) is None


def test_what_torchrun_starts_anew_is_the_same_job() -> None:
    elastic = {"TORCHELASTIC_RUN_ID": "ab", "TORCHELASTIC_RESTART_COUNT": "3"}
    assert job_from(elastic) == Job(system="torchrun", id="ab", restarts=3)
    assert job_from(elastic | {"SLURM_JOB_ID": "1", "SLURM_RESTART_COUNT": "2"}) == Job(
        system="SLURM", id="1", restarts=5
    )
    unnamed = job_from({"TORCHELASTIC_RUN_ID": "none"})
    assert unnamed is not None
    assert unnamed.id == f"{socket.gethostname()} {os.getppid()}"


def test_how_often_torchrun_comes_back() -> None:
    assert restarts_left({"TORCHELASTIC_MAX_RESTARTS": "3", "TORCHELASTIC_RESTART_COUNT": "1"}) == 2
    assert restarts_left({"TORCHELASTIC_MAX_RESTARTS": "0"}) == 0
    assert restarts_left({}) == 0


def test_what_finetui_itself_has_started_is_no_job() -> None:
    assert job_from({"TORCHELASTIC_RUN_ID": "ab", "FINETUI_LAUNCHER": "7"}) is None
