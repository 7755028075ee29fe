"""The processes of a watched loop: forked children, loaders' workers, ranks, and how each of them may end."""

import multiprocessing
import os
import signal
import subprocess
import textwrap
from pathlib import Path

import pytest
import torch
from fork_server import FORKED
from own_loop import OwnNet, descriptors, images_and_labels, journal_of, own_loader, watched_in
from torch.optim.optimizer import _global_optimizer_pre_hooks
from torch.utils.data import DataLoader, TensorDataset

import finetui
from finetui.engine.protocol import commands, events
from finetui.engine.runs.folder import RunFolder
from finetui.engine.runs.lock import is_live
from finetui.engine.runs.summaries import summarise_run


def test_a_child_that_is_forked_owns_nothing(tmp_path: Path, request: pytest.FixtureRequest) -> None:
    there = descriptors()
    net = OwnNet()
    optimizer = torch.optim.SGD(net.parameters(), lr=0.1)
    with finetui.watch(net, optimizer, runs_dir=tmp_path, name="own") as run:
        steps = iter(run.steps(own_loader()))
        next(steps)
        assert run.folder is not None
        folder = RunFolder(run.folder)
        before = folder.journal.read_bytes()
        reader, writer = os.pipe()
        child = os.fork()
        if child == 0:
            signal.alarm(60)  # whatever becomes of the test
            try:
                mine = [
                    path
                    for number, path in descriptors().items()
                    if there.get(number) != path and (str(tmp_path) in path or "sock" in path or "epoll" in path)
                ]
                run.log(loss=1.0)
                run.predictions(torch.eye(4), [0, 1, 2, 3])
                taken = sum(1 for _ in run.steps([1, 2, 3]))
                run.__exit__(None, None, None)
                said = f"{run.active} {taken} {mine} {len(_global_optimizer_pre_hooks)}"
                os.write(writer, said.encode())
                signal.sigwait({signal.SIGTERM})
            finally:
                os._exit(1)
        os.close(writer)
        said = os.read(reader, 4096).decode()
        os.close(reader)
        request.addfinalizer(lambda: (os.kill(child, signal.SIGKILL), os.waitpid(child, 0)))
        assert said == "False 3 [] 0"
        assert folder.journal.read_bytes() == before
        assert is_live(folder)
        for _ in steps:  # the parent goes on
            run.log(loss=1.0)
    # The child is still there, and does not keep the run.
    assert not is_live(folder)
    assert summarise_run(folder).state == "finished"


@pytest.mark.parametrize("method", ["fork", "spawn"])
def test_loader_workers_are_as_without(tmp_path: Path, method: str) -> None:
    context = multiprocessing.get_context(method)
    loader = DataLoader(
        TensorDataset(*images_and_labels()), 8, num_workers=1, multiprocessing_context=context, persistent_workers=True
    )
    with watched_in(tmp_path)() as run:
        for _ in range(2):
            assert sum(len(images) for images, _ in run.steps(loader)) == 96
    assert not is_live(RunFolder(tmp_path / "own"))  # though workers live
    del loader


KILLED = """
    import os, signal, sys, finetui
    with finetui.watch(runs_dir=sys.argv[1], name="own") as run:
        for number in run.steps(range(100)):
            run.log(loss=1.0)
            if number == 50:
                os.kill(os.getpid(), signal.SIGKILL)
"""
LEFT_OPEN = """
    import sys, finetui
    run = finetui.watch(runs_dir=sys.argv[1], name="own").__enter__()
    for number in run.steps(range(10)):
        run.log(loss=1.0)
    if sys.argv[2] == "raises":
        raise ValueError("as it is")
"""


def run_script(script: str, *arguments: str) -> subprocess.CompletedProcess[str]:
    command = [*FORKED, textwrap.dedent(script), *arguments]
    return subprocess.run(command, capture_output=True, text=True, timeout=120, check=False)


def test_a_process_that_is_killed_is_seen_as_crashed(tmp_path: Path) -> None:
    assert run_script(KILLED, str(tmp_path)).returncode == -signal.SIGKILL
    folder = RunFolder(tmp_path / "own")
    assert not is_live(folder)
    assert summarise_run(folder).state == "crashed"


@pytest.mark.parametrize(("how", "state", "status"), [("ends", "finished", 0), ("raises", "crashed", 1)])
def test_a_run_that_nobody_left_ends_with_the_process(tmp_path: Path, how: str, state: str, status: int) -> None:
    ended = run_script(LEFT_OPEN, str(tmp_path), how)
    assert ended.returncode == status
    assert ended.stdout == ""
    assert ended.stderr.endswith("ValueError: as it is\n") if status else ended.stderr == ""
    last = journal_of(RunFolder(tmp_path / "own"))[-1]
    assert last.state == state


def test_what_was_raised_before_the_run_is_none_of_its_own(tmp_path: Path) -> None:
    failed = "import sys; sys.last_value = ValueError('an earlier cell')\n"  # as a notebook leaves it
    assert run_script(failed + textwrap.dedent(LEFT_OPEN), str(tmp_path), "ends").returncode == 0
    assert journal_of(RunFolder(tmp_path / "own"))[-1].state == "finished"


def test_only_the_first_of_several_ranks_writes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("WORLD_SIZE", "2")
    for rank in (1, 0):
        monkeypatch.setenv("RANK", str(rank))
        with watched_in(tmp_path)() as run:
            assert run.active == (rank == 0)
            for _ in run.steps(range(3)):
                run.log(loss=1.0)
    assert [path.name for path in tmp_path.iterdir()] == ["own"]
    prepared = next(e for e in journal_of(RunFolder(tmp_path / "own")) if isinstance(e, events.RunPrepared))
    assert prepared.world == 2
    assert prepared.capabilities.refusal(commands.Pause) is not None
