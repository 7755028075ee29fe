"""Where a watched run comes from is in its journal, and the loop neither waits for that nor is harmed by it."""

import os
import sys
import time
from pathlib import Path

import pytest
from git_repository import made_repository
from own_loop import OwnNet, journal_of
from watching import until

import finetui
from finetui.engine.protocol import events
from finetui.engine.protocol.provenance import GitState, Provenance
from finetui.engine.runs.folder import RunFolder
from finetui.engine.runs.summaries import summarise_run
from finetui.engine.watching import provenance

COMMIT = "0" * 40


@pytest.fixture
def repository(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A repository with one commit, and a changed file: the current folder."""
    place = made_repository(tmp_path / "code", monkeypatch)
    (place / "train.py").write_text("print(2)\n")
    return place


def told(folder: Path) -> list[Provenance]:
    journal = journal_of(RunFolder(folder))
    return [event.provenance for event in journal if isinstance(event, events.ProvenanceTold)]


def test_a_watched_run_tells_where_it_comes_from(
    repository: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys, "argv", ["/a/train.py", "--lr", "0.1", "--token", "abcdefgh"])
    monkeypatch.setattr(provenance, "_AT_THE_END", 60.0)
    with finetui.watch(OwnNet(), runs_dir=tmp_path, name="own") as run:
        for _ in run.steps(range(3)):
            pass
    (found,) = told(tmp_path / "own")
    assert found.command == ("train.py", "--lr", "0.1", "--token", "***")
    assert found.folder == str(repository)
    (state,) = (one for one in found.git if one.folder == str(repository))
    assert len(state.commit) == 40
    assert state.changed
    assert {"finetui", "python", "torch", "numpy"} <= found.packages.keys()
    assert found.device.startswith("cpu")
    summary = summarise_run(RunFolder(tmp_path / "own"))
    assert summary is not None
    assert summary.provenance == found


def fake_git(folder: Path, monkeypatch: pytest.MonkeyPatch, status: str) -> None:
    """Have a git that knows a commit at once, and does `status`, a line of the shell, when it is asked for changes."""
    (folder / "bin").mkdir()
    git = folder / "bin" / "git"
    git.write_text(
        f"#!/bin/sh\ncase \"$*\" in *rev-parse*) printf '/code\\n{COMMIT}\\n';; *config*) exit 1;; *) {status};; esac\n"
    )
    git.chmod(0o755)
    monkeypatch.setenv("PATH", str(folder / "bin"))


def test_it_is_told_while_the_loop_goes_on(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    fake_git(tmp_path, monkeypatch, "while [ ! -e go ]; do /bin/sleep 0.01; done; echo ' M train.py'")
    monkeypatch.chdir(tmp_path)
    for most in ("POINT_INTERVAL", "_LONGEST"):  # a point at each step
        monkeypatch.setattr(f"finetui.engine.watching.loop_meter.{most}", 0.0)
    with finetui.watch(runs_dir=tmp_path, name="own") as run:
        steps = iter(run.steps(range(10**9)))
        assert run._loop is not None
        look = run._loop.record._provenance
        assert look is not None
        for _ in range(20):
            next(steps)
        assert not told(tmp_path / "own")  # and nothing has waited
        (tmp_path / "go").touch()
        until(look.ready)
        for _ in range(2):
            next(steps)
        (found,) = told(tmp_path / "own")
        assert GitState(folder="/code", commit=COMMIT, changed=True) in found.git


def test_a_git_that_hangs_is_not_waited_for_and_not_left(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    fake_git(tmp_path, monkeypatch, "exec /bin/sleep 1000")
    with finetui.watch(runs_dir=tmp_path, name="own") as run:
        for _ in run.steps(range(5)):
            pass
        assert run._loop is not None
        look = run._loop.record._provenance
        assert look is not None
        until(lambda: bool(look.ready() or look._git._asked))
        processes = [process for pair in look._git._asked for process in pair if process is not None]
    assert processes
    assert all(process.returncode is not None for process in processes)
    (found,) = told(tmp_path / "own")
    assert {state.changed for state in found.git} == {None}


def test_a_child_that_is_forked_leaves_git_to_its_parent(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    fake_git(tmp_path, monkeypatch, "exec /bin/sleep 1000")
    with finetui.watch(runs_dir=tmp_path, name="own") as run:
        assert run._loop is not None
        record = run._loop.record
        look = record._provenance
        assert look is not None
        until(lambda: bool(look.ready() or look._git._asked))
        processes = [process for pair in look._git._asked for process in pair if process is not None]
        child = os.fork()
        if child == 0:
            mine = record._provenance is None and all(one.stdout is None or one.stdout.closed for one in processes)
            os._exit(0 if mine else 1)
        assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
        assert any(process.poll() is None for process in processes)  # the child has ended none of them


@pytest.mark.parametrize("when", ["__init__", "found"])
def test_a_fault_in_it_is_said_in_the_runs_log(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, when: str) -> None:
    monkeypatch.setattr(provenance.LoopProvenance, when, lambda *_: 1 / 0)
    with finetui.watch(runs_dir=tmp_path, name="own") as run:
        assert sum(1 for _ in run.steps(range(5))) == 5
        assert run.active
    logs = [event.message for event in journal_of(RunFolder(tmp_path / "own")) if isinstance(event, events.Log)]
    assert logs == ["the run's provenance is incomplete: ZeroDivisionError: division by zero"]
    assert summarise_run(RunFolder(tmp_path / "own")).state == "finished"


def test_objects_of_the_script_are_not_asked(monkeypatch: pytest.MonkeyPatch) -> None:
    class Lazy:
        def __getattribute__(self, name: str) -> object:
            raise AssertionError(f"it was asked for {name}")

    monkeypatch.setattr(sys.modules["__main__"], "lazy", Lazy(), raising=False)
    look = provenance.LoopProvenance(None)
    assert look.found(True).packages["torch"]
    assert time.monotonic() < look._until
