"""Row 30 and 32: several processes train one run; their launcher, or one of them, is killed, stopped or signalled."""

import os
import re
import signal
from collections.abc import Callable, Iterator
from pathlib import Path

import psutil
import pytest
from command_line import FINETUI, finetui
from launched import ENDLESS, LONG, TORCHRUN, Launched
from watching import until

from finetui.engine.checkpoints import checkpoint
from finetui.engine.protocol.events import JobFound, Rewound, RunPrepared, RunStarted, StateChanged, TrainPoint
from finetui.engine.runs.folder import RunFolder
from finetui.engine.runs.lock import holder_of

TRAIN = ("train", *ENDLESS, "--name", "t")


@pytest.fixture
def launch(tmp_path: Path) -> Iterator[Callable[..., Launched]]:
    started: list[Launched] = []

    def make(*command: str, **environment: str) -> Launched:
        started.append(Launched(command, tmp_path, **environment))
        return started[-1]

    yield make
    for one in started:
        one.close()


def steps_saved(folder: RunFolder) -> int:
    return int(checkpoint.load(folder.last)[2]["step"])


def test_a_killed_launcher_takes_all_ranks_along(launch) -> None:
    """The terminal may close; with the launcher all ranks end, and what was trained is saved (5 s are required)."""
    run = launch(*FINETUI, *TRAIN, "--nproc", "2")
    run.until_training()
    assert set(run.ranks) == {0, 1}
    assert run.of(RunPrepared)[0].world == 2
    for process in (run.process.pid, *(rank.pid for rank in run.ranks.values())):
        os.kill(process, signal.SIGHUP)
    run.until_training(after=len(run.of(TrainPoint)) + 1)
    assert "rank 1" not in run.said()
    assert run.folder.rank_log(1).is_file()
    run.process.kill()
    run.until_all_gone()
    assert run.last_state().state == "stopped"
    assert steps_saved(run.folder) == run.last_state().step > 0


def test_a_killed_or_stopped_rank_is_named_and_the_run_can_go_on(launch, tmp_path: Path) -> None:
    """In the background: stop and resume know the number of processes; who is lost is said, and nobody hangs."""
    told = finetui(*TRAIN, "--nproc", "2", "--detach", cwd=tmp_path)
    assert told.returncode == 0, told.stderr
    folder = RunFolder(tmp_path / "checkpoints" / "t")
    there = holder_of(folder)
    assert there is not None
    others = [one for one in psutil.Process(there.parent).children() if one.pid != there.pid]
    assert len(others) == 1
    stopped = finetui("stop", "t", cwd=tmp_path)
    assert stopped.returncode == 0, stopped.stderr
    until(lambda: not psutil.pid_exists(there.parent), "the launcher stays")
    # The same number of processes, without being told.
    run = launch(*FINETUI, "resume", "t", FINETUI_RANK_PATIENCE="6")
    run.until_training(after=len(run.of(TrainPoint)))
    assert set(run.ranks) == {0, 1}
    lost = run.ranks[1].pid
    run.ranks[1].kill()
    assert run.process.wait(LONG) == 1, run.said()
    run.until_all_gone()
    assert run.last_state().state == "failed"
    assert f"rank 1 (process {lost} on " in run.last_state().reason
    assert "is gone" in run.last_state().reason
    assert "finetui resume t" in run.last_state().reason
    run = launch(*FINETUI, "resume", "t", FINETUI_RANK_PATIENCE="6")
    run.until_training(after=len(run.of(TrainPoint)))
    run.ranks[1].suspend()
    assert run.process.wait(LONG) == 1, run.said()
    run.until_all_gone()
    assert run.last_state().state == "failed"
    assert "no sign of life" in run.last_state().reason
    assert "rank 1" in run.last_state().reason


def test_what_torchrun_starts_anew_is_the_same_run(launch) -> None:
    """With --max-restarts: a killed rank takes all down, and all come back, to the same folder; a SIGTERM saves."""
    run = launch(*TORCHRUN, "--max-restarts", "1", "-m", "finetui", *TRAIN)
    run.until_training()
    assert set(run.ranks) == {0, 1}
    run.ranks[1].kill()
    until(lambda: len(run.of(Rewound)) == 1, f"it does not go on: {run.said()}", LONG)
    run.until_training(after=len(run.of(TrainPoint)))
    assert len(run.of(RunStarted)) == 1
    assert run.of(JobFound)[-1].restarts == 1
    assert [state.state for state in run.of(StateChanged)].count("failed") == 1
    run.process.send_signal(signal.SIGTERM)  # torchrun passes it on to all ranks
    run.process.wait(LONG)
    run.until_all_gone()
    assert run.last_state().state == "stopped"
    assert steps_saved(run.folder) == run.last_state().step > 0


# Starts its tasks as SLURM does, one for each device.
SRUN = """#!/bin/bash
export SLURM_STEP_ID=0 SLURM_NTASKS=2 SLURM_NNODES=1 SLURM_NODEID=0 SLURM_TASKS_PER_NODE=2
for task in 0 1; do
    SLURM_PROCID=$task SLURM_LOCALID=$task "$@" &
    pids+=($!)
done
status=0
for pid in "${pids[@]}"; do
    wait $pid
    code=$?
    if [ $code -gt $status ]; then status=$code; fi
done
exit $status
"""

DOCUMENTED = Path(__file__).parents[2] / "docs" / "distributed.md"


def batch_script(command: str) -> str:
    """Return the batch script in the docs, with another command."""
    lines = DOCUMENTED.read_text(encoding="utf-8").splitlines()
    first = lines.index("    #!/bin/bash")
    script = "\n".join(line.removeprefix("    ") for line in lines[first : first + 10])
    changed = re.sub(r"(?<=srun )finetui train .*", command, script)
    assert changed != script
    return changed + "\n"


@pytest.fixture
def slurm(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Return the folder of a fake `srun`, and of a `scontrol` that notes what it is told."""
    folder = tmp_path / "slurm"
    folder.mkdir()
    (folder / "srun").write_text(SRUN)
    (folder / "scontrol").write_text(f'#!/bin/bash\necho "$@" >> {folder / "told"}\n')
    for program in ("srun", "scontrol"):
        (folder / program).chmod(0o755)
    monkeypatch.setenv("PATH", str(folder), prepend=os.pathsep)
    monkeypatch.setenv("SLURM_JOB_ID", str(os.getpid()))
    monkeypatch.setenv("SLURM_JOB_END_TIME", "2000000000")
    return folder


def test_a_batch_script_is_requeued_and_goes_on(launch, slurm: Path, tmp_path: Path) -> None:
    """SLURM's signal before the limit: one checkpoint, a status by which it is requeued, and the same run goes on."""
    (tmp_path / "job.sh").write_text(batch_script(" ".join([*FINETUI, *TRAIN])))
    run = launch("bash", "job.sh")
    run.until_training()
    assert run.of(JobFound)[0].ends == 2_000_000_000
    assert len(run.ranks) == 2
    for rank in run.ranks.values():  # SLURM signals all tasks, and not the script
        rank.send_signal(signal.SIGUSR1)
    assert run.process.wait(LONG) == 138, run.said()
    run.until_all_gone()
    assert run.last_state().state == "stopped"
    step = run.last_state().step
    assert steps_saved(run.folder) == step > 0
    assert (slurm / "told").read_text() == f"requeue {os.getpid()}\n"
    run = launch("bash", "job.sh", SLURM_RESTART_COUNT="1")
    until(lambda: len(run.of(Rewound)) == 1, f"it does not go on: {run.said()}", LONG)
    run.until_training(after=len(run.of(TrainPoint)))
    assert run.of(Rewound)[0].step == step
    assert [folder.name for folder in (tmp_path / "checkpoints").iterdir()] == ["t"]
    assert run.of(JobFound)[-1].restarts == 1


def test_what_rank_0_cannot_use_ends_all_tasks(launch, slurm: Path, tmp_path: Path) -> None:
    """The first task reads the command line, for all; the others do not wait for it for ever, and say nothing."""
    (tmp_path / "checkpoints" / "t").mkdir(parents=True)
    run = launch("srun", *FINETUI, *TRAIN)
    assert run.process.wait(LONG) == 2
    assert run.said().count("a run named 't' exists") == 1
    assert "Traceback" not in run.said()
