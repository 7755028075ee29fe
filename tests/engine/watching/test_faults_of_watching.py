"""What fails in watching a loop, of finetui's own or around it, is told, and stops no training."""

import errno
import os
from pathlib import Path

import pytest
import torch
from own_loop import OwnError, OwnNet, journal_of, watched_in

import finetui
from finetui.engine.link import sockets
from finetui.engine.protocol import events
from finetui.engine.runs.folder import RunFolder
from finetui.engine.runs.lock import is_live


def test_a_disk_that_is_full_stops_no_training(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with watched_in(tmp_path)() as run:
        steps = iter(run.steps(range(40)))
        next(steps)
        full = OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

        def write(*_: object) -> None:
            raise full

        monkeypatch.setattr("finetui.engine.runs.journal.Journal._write", write)
        monkeypatch.setattr("finetui.engine.predictions.file.Predictions.save", write)
        for _ in range(10):
            next(steps)
            run.log(loss=1.0)
        run.predictions(torch.eye(4), [0, 1, 2, 3])
        monkeypatch.undo()
        for _ in steps:
            pass
    told = journal_of(RunFolder(tmp_path / "own"))
    logs = [event.message for event in told if isinstance(event, events.Log)]
    assert logs == [
        "the journal cannot be written: No space left on device; it is kept in memory",
        "the predictions could not be written: No space left on device",
        "the journal can be written again, and is complete",
    ]
    assert [event.n for event in told if isinstance(event, events.Evaluated)] == [4]
    assert told[-1].state == "finished"


def test_a_folder_that_cannot_be_made_is_a_warning(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    run = finetui.watch(runs_dir=tmp_path / "file")
    with pytest.warns(RuntimeWarning, match="finetui watches nothing: a run cannot be created in"):
        run.__enter__()
    with run:
        assert sum(1 for _ in run.steps(range(5))) == 5
        run.log(loss=1.0)
    assert run.folder is None


def test_without_a_socket_it_is_recorded_all_the_same(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def no_place() -> Path:
        raise OSError(errno.EACCES, os.strerror(errno.EACCES))

    monkeypatch.setattr(sockets, "new_path", no_place)
    with watched_in(tmp_path)() as run:
        for _ in run.steps(range(5)):
            run.log(loss=1.0)
    told = journal_of(RunFolder(tmp_path / "own"))
    assert "no dashboard can attach: [Errno 13] Permission denied" in [getattr(e, "message", "") for e in told]
    assert told[-1].state == "finished"


def test_a_fault_of_finetuis_own_stops_the_watching_alone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with watched_in(tmp_path)() as run:
        steps = iter(run.steps(range(20)))
        next(steps)
        monkeypatch.setattr("finetui.engine.watching.loop.Loop._look_ahead", lambda _self: 1 / 0)
        assert sum(1 for _ in steps) == 19
        assert not run.active
    folder = RunFolder(tmp_path / "own")
    last = journal_of(folder)[-1]
    assert last.state == "failed"
    assert last.reason.startswith("finetui no longer watches this loop, which continues: ZeroDivisionError")
    assert "1 / 0" in folder.log.read_text()
    assert not is_live(folder)


def test_a_fault_in_an_optimizers_hook_reaches_no_loop(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    net = OwnNet()
    optimizer = torch.optim.SGD(net.parameters(), lr=0.1)
    monkeypatch.setattr("finetui.engine.watching.layers.WatchedLayers.saw_gradients", lambda _self: 1 / 0)
    with watched_in(tmp_path)(net, optimizer) as run, pytest.warns(RuntimeWarning, match="ZeroDivisionError"):
        for number in run.steps(range(3)):
            net.head.bias.grad = torch.ones(4)
            before = net.head.bias.detach().clone()
            optimizer.step()
            assert torch.equal(net.head.bias, before - 0.1)
            assert run.active == (number == 0)
    assert journal_of(RunFolder(tmp_path / "own"))[-1].state == "failed"


def test_a_fault_while_giving_up_reaches_nobody(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with watched_in(tmp_path)() as run:
        steps = iter(run.steps(range(20)))
        next(steps)
        (tmp_path / "own" / "engine.log").unlink(missing_ok=True)
        run._loop.record.folder.log.mkdir()
        monkeypatch.setattr("finetui.engine.watching.steering.Steering.close", lambda _self: 1 / 0)
        monkeypatch.setattr("finetui.engine.watching.loop.Loop._look_ahead", lambda _self: 1 / 0)
        assert sum(1 for _ in steps) == 19
        assert not run.active
    folder = RunFolder(tmp_path / "own")
    assert journal_of(folder)[-1].state == "failed"
    assert not is_live(folder)


def test_a_persons_exception_is_not_hidden_by_a_fault_at_the_end(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("finetui.engine.watching.steering.Steering.close", lambda _self: 1 / 0)
    with pytest.raises(OwnError), watched_in(tmp_path)():
        raise OwnError
    assert not is_live(RunFolder(tmp_path / "own"))


def test_whatever_fails_at_the_beginning_is_a_warning(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("finetui.engine.watching.loop.module_groups", lambda _model: 1 / 0)
    run = finetui.watch(OwnNet(), runs_dir=tmp_path)
    with pytest.warns(RuntimeWarning, match="finetui watches nothing: ZeroDivisionError"):
        run.__enter__()
    with run:
        assert sum(1 for _ in run.steps(range(5))) == 5
