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
from finetui.engine.link.attach_link import AttachLink
from finetui.engine.protocol.events import JobFound, Rewound, RunPrepared, RunStarted, StateChanged, TrainPoint
from finetui.engine.runs.folder import RunFolder
from finetui.engine.runs.journal import JournalReader
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
    assert "has not responded" in run.last_state().reason
    assert "rank 1" in run.last_state().reason


def test_what_torchrun_starts_anew_is_the_same_run(launch, watch) -> None:
    """With --max-restarts: a killed rank takes all down, and all come back, to the same folder; a SIGTERM saves.

    Who was attached sees that, and is there again, too.
    """
    run = launch(*TORCHRUN, "--max-restarts", "1", "-m", "finetui", *TRAIN)
    run.until_training()
    assert set(run.ranks) == {0, 1}
    dashboard = watch(AttachLink(run.folder))
    dashboard.until_kind(TrainPoint)
    run.ranks[1].kill()
    until(lambda: len(run.of(Rewound)) == 1, f"it does not go on: {run.said()}", LONG)
    run.until_training(after=len(run.of(TrainPoint)))
    assert len(run.of(RunStarted)) == 1
    assert run.of(JobFound)[-1].restarts == 1
    assert [state.state for state in run.of(StateChanged)].count("failed") == 1
    dashboard.until_kind(Rewound)
    dashboard.until_kind(TrainPoint)
    assert "crashed" not in [event.state for event in dashboard.seen if isinstance(event, StateChanged)]
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


def test_a_batch_systems_signal_to_the_launcher_reaches_all_ranks(launch, slurm) -> None:
    """A job whose script signals what it has started, and not the tasks: one checkpoint, and the same status."""
    run = launch(*FINETUI, *TRAIN, "--nproc", "2")
    run.until_training()
    run.process.send_signal(signal.SIGUSR1)
    assert run.process.wait(LONG) == 138, run.said()
    run.until_all_gone()
    assert run.last_state().state == "stopped"
    assert steps_saved(run.folder) == run.last_state().step > 0


def test_what_rank_0_cannot_use_ends_all_tasks(launch, slurm: Path, tmp_path: Path) -> None:
    """The first task reads the command line, for all; the others do not wait for it for ever, and say nothing."""
    (tmp_path / "checkpoints" / "t").mkdir(parents=True)
    run = launch("srun", *FINETUI, *TRAIN)
    assert run.process.wait(LONG) == 2
    assert run.said().count("a run named 't' exists") == 1
    assert "Traceback" not in run.said()


def test_what_is_made_of_a_run_of_two_has_two(tmp_path: Path) -> None:
    """A replay and a finetune start as many processes as the run had; the replay ends with the same weights."""
    short = ("--data", "mnist-sample", "--device", "cpu", "--epochs", "1", "--nproc", "2", "--name", "t")
    told = finetui("train", *short, cwd=tmp_path)
    assert told.returncode == 0, told.stderr
    told = finetui("replay", "t", "--json", cwd=tmp_path)
    assert told.returncode == 0, told.stderr
    assert '"same": true' in told.stdout.replace('"same":true', '"same": true')
    told = finetui("finetune", "t", "--recipe", "full", "--epochs", "1", "--name", "child", cwd=tmp_path)
    assert told.returncode == 0, told.stderr
    for name in ("t", "t-replay", "child"):
        events = JournalReader(tmp_path / "checkpoints" / name / "journal.jsonl").read()
        assert [event.world for event in events if isinstance(event, RunPrepared)] == [2]


# A network that has no memory left in one of the processes, after some steps.
GREEDY_NETWORK = """
import os, torch
class Greedy(torch.nn.Sequential):
    steps = 0
    def forward(self, images):
        self.steps += self.training
        if os.environ["RANK"] == "1" and self.steps > 20:
            raise MemoryError("no room for the activations")
        return super().forward(images)
def make(num_classes):
    return Greedy(torch.nn.Flatten(), torch.nn.Linear(784, num_classes))
"""


def test_a_rank_without_memory_says_so(launch, tmp_path: Path) -> None:
    """What the first failing rank says is why the run has failed, and not that its connections broke."""
    (tmp_path / "greedy.py").write_text(GREEDY_NETWORK)
    run = launch(*FINETUI, *TRAIN, "--nproc", "2", "--model", "greedy.py:make")
    assert run.process.wait(2 * LONG) == 1, run.said()
    assert run.last_state().state == "failed"
    assert run.last_state().reason.startswith("rank 1 (process ")
    assert "out of memory" in run.last_state().reason
    assert "no room for the activations" in run.said()
    assert "Connection" not in run.said()
    assert "no room for the activations" in run.folder.rank_log(1).read_text()
