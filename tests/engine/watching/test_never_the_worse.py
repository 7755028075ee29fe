"""A loop is never the worse for being watched: same bits, same exceptions, nothing left, nothing printed."""

import copy
import errno
import gc
import multiprocessing
import os
import random
import signal
import subprocess
import sys
import textwrap
import threading
import warnings
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from own_loop import OwnLoop, OwnNet, images_and_labels, journal_of, own_loader
from torch.nn import functional as F
from torch.optim.optimizer import _global_optimizer_post_hooks, _global_optimizer_pre_hooks
from torch.utils.data import DataLoader, TensorDataset
from watching import until

import finetui
from finetui.engine.errors import BadInput
from finetui.engine.link import sockets
from finetui.engine.protocol import commands, events
from finetui.engine.runs.folder import RunFolder
from finetui.engine.runs.lock import is_live
from finetui.engine.runs.summaries import summarise_run
from finetui.engine.watching.loop_meter import LoopMeter
from finetui.engine.watching.saving import undisturbed


def train(run: Any = None, epochs: int = 2) -> dict[str, torch.Tensor]:
    """Train as `OwnLoop` does, in `run` if there is one; return the weights."""
    torch.manual_seed(5)
    net, images = OwnNet(), images_and_labels()[0]
    optimizer = torch.optim.AdamW(net.parameters(), lr=0.01)
    net.block1.requires_grad_(False)  # with batch statistics that go on drifting, as people's do

    def loop(steps: Any, told: Any) -> None:
        for _ in range(epochs):
            net.train()
            for inputs, labels in steps(own_loader()):
                optimizer.zero_grad(set_to_none=False)
                loss = F.cross_entropy(net(inputs), labels)
                loss.backward()
                optimizer.step()
                told(loss)
            net.eval()
            with torch.no_grad():
                net(images)

    if run is None:
        loop(lambda loader: loader, lambda loss: None)
    else:
        with run(net, optimizer) as watched:
            loop(watched.steps, lambda loss: watched.log(loss=loss))
    return copy.deepcopy(net.state_dict())


def threads() -> set[str]:
    return {thread.name for thread in threading.enumerate()}


def descriptors() -> dict[str, str]:
    found = {}
    for entry in list(Path("/proc/self/fd").iterdir()):
        with suppress(OSError):  # the one that lists them
            found[entry.name] = str(entry.readlink())
    return found


def watching(tmp_path: Path, **options: Any) -> Any:
    return lambda net=None, optimizer=None: finetui.watch(net, optimizer, runs_dir=tmp_path, name="own", **options)


def test_the_same_bits_as_without(tmp_path: Path) -> None:
    plain, watched = train(), train(watching(tmp_path))
    assert all(torch.equal(plain[name], watched[name]) for name in plain)


def test_nothing_is_left_and_nothing_printed(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    train(watching(tmp_path))  # imports
    gc.collect()
    before, there = threads(), descriptors()
    with OwnLoop(tmp_path, epochs=3) as loop:
        watcher = loop.attach()
        socket = loop.run._loop.record.endpoint.path
        assert socket.exists()
        loop.wait()
        watcher.close()
    del watcher
    gc.collect()
    assert threads() == before
    assert len(descriptors()) == len(there), (there, descriptors())
    assert capfd.readouterr() == ("", "")
    assert not socket.exists()
    assert not _global_optimizer_pre_hooks
    assert not _global_optimizer_post_hooks


class OwnError(Exception):
    pass


@pytest.mark.parametrize(
    ("error", "state", "reason"),
    [
        (OwnError("as it is"), "crashed", "OwnError: as it is"),
        (KeyboardInterrupt(), "stopped", "interrupted from the keyboard"),
        (SystemExit(3), "stopped", "the program ended itself with 3"),
    ],
)
def test_what_is_raised_passes_through(tmp_path: Path, error: BaseException, state: str, reason: str) -> None:
    def fail() -> None:
        raise error

    with pytest.raises(type(error)) as raised, watching(tmp_path)() as run:
        for _ in run.steps([1, 2, 3]):
            fail()
    assert raised.value is error
    assert error.__cause__ is None
    assert error.__context__ is None
    assert [frame.name for frame in raised.traceback][-1] == "fail"
    ours = str(Path(finetui.engine.watching.__file__).resolve().parent)
    assert not any(str(entry.path).startswith(ours) for entry in raised.traceback)
    last = journal_of(RunFolder(tmp_path / "own"))[-1]
    assert (last.state, last.reason) == (state, reason)


def test_two_runs_after_one_another_and_of_one_name(tmp_path: Path) -> None:
    for name in ("own", "own-2", "own-3"):
        with watching(tmp_path)() as run:
            assert run.folder == tmp_path / name
            for _ in run.steps([1, 2]):
                pass
        assert summarise_run(RunFolder(tmp_path / name)).state == "finished"


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
        TensorDataset(*images_and_labels()), 8, num_workers=2, multiprocessing_context=context, persistent_workers=True
    )
    with watching(tmp_path)() as run:
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
    command = [sys.executable, "-c", textwrap.dedent(script), *arguments]
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


def test_a_disk_that_is_full_stops_no_training(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with watching(tmp_path)() as run:
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
    with watching(tmp_path)() as run:
        for _ in run.steps(range(5)):
            run.log(loss=1.0)
    told = journal_of(RunFolder(tmp_path / "own"))
    assert "no dashboard can attach: [Errno 13] Permission denied" in [getattr(e, "message", "") for e in told]
    assert told[-1].state == "finished"


def test_a_fault_of_finetuis_own_stops_the_watching_alone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with watching(tmp_path)() as run:
        steps = iter(run.steps(range(20)))
        next(steps)
        monkeypatch.setattr("finetui.engine.watching.loop_meter.LoopMeter.due", lambda _self: 1 / 0)
        assert sum(1 for _ in steps) == 19
        assert not run.active
    folder = RunFolder(tmp_path / "own")
    last = journal_of(folder)[-1]
    assert last.state == "failed"
    assert last.reason.startswith("finetui watches this loop no more, which goes on: ZeroDivisionError")
    assert "1 / 0" in folder.log.read_text()
    assert not is_live(folder)


def test_what_is_given_wrongly_is_said_once_and_left_out(tmp_path: Path) -> None:
    with watching(tmp_path)() as run:
        for _ in run.steps(range(3)):
            with warnings.catch_warnings(record=True) as said:
                warnings.simplefilter("always")
                run.log(loss=torch.ones(3))
                run.predictions(torch.ones(3, 4), [0, 1])
            if _ == 0:
                assert [str(one.message) for one in said] == [
                    "run.log(loss=...) takes one number, and was given a tensor of (3,)",
                    "there are 3 predictions, and labels of the shape (2,)",
                ]
                assert {one.filename for one in said} == {__file__}
            else:
                assert not said
        assert run.active


def test_a_profiler_and_a_debugger_see_the_loop(tmp_path: Path) -> None:
    traced: list[str] = []
    with torch.profiler.profile(activities=[torch.profiler.ProfilerActivity.CPU]) as profile:
        sys.settrace(lambda frame, kind, _argument: traced.append(kind))
        try:
            watched = train(watching(tmp_path), epochs=1)
        finally:
            sys.settrace(None)
    assert traced
    assert any(event.key.startswith("Optimizer.step#AdamW") for event in profile.key_averages())
    plain = train(epochs=1)
    assert all(torch.equal(plain[name], watched[name]) for name in plain)


def test_a_loop_in_a_thread_changes_no_signal(tmp_path: Path) -> None:
    before = signal.getsignal(signal.SIGINT), signal.getsignal(signal.SIGTERM)
    with OwnLoop(tmp_path, epochs=2) as loop:
        until(lambda: loop.steps > 3)
        assert (signal.getsignal(signal.SIGINT), signal.getsignal(signal.SIGTERM)) == before
        loop.wait()
    assert loop.error is None


def test_only_the_first_of_several_ranks_writes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("WORLD_SIZE", "2")
    for rank in (1, 0):
        monkeypatch.setenv("RANK", str(rank))
        with watching(tmp_path)() as run:
            assert run.active == (rank == 0)
            for _ in run.steps(range(3)):
                run.log(loss=1.0)
    assert [path.name for path in tmp_path.iterdir()] == ["own"]
    prepared = next(e for e in journal_of(RunFolder(tmp_path / "own")) if isinstance(e, events.RunPrepared))
    assert prepared.world == 2
    assert prepared.capabilities.refusal(commands.Pause) is not None


def test_a_fault_while_giving_up_reaches_nobody(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with watching(tmp_path)() as run:
        steps = iter(run.steps(range(20)))
        next(steps)
        (tmp_path / "own" / "engine.log").unlink(missing_ok=True)
        run._loop.record.folder.log.mkdir()
        monkeypatch.setattr("finetui.engine.watching.steering.Steering.close", lambda _self: 1 / 0)
        monkeypatch.setattr("finetui.engine.watching.loop_meter.LoopMeter.due", lambda _self: 1 / 0)
        assert sum(1 for _ in steps) == 19
        assert not run.active
    folder = RunFolder(tmp_path / "own")
    assert journal_of(folder)[-1].state == "failed"
    assert not is_live(folder)


def test_a_persons_exception_is_not_hidden_by_a_fault_at_the_end(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("finetui.engine.watching.steering.Steering.close", lambda _self: 1 / 0)
    with pytest.raises(OwnError), watching(tmp_path)():
        raise OwnError
    assert not is_live(RunFolder(tmp_path / "own"))


def test_whatever_fails_at_the_beginning_is_a_warning(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("finetui.engine.watching.loop.module_groups", lambda _model: 1 / 0)
    run = finetui.watch(OwnNet(), runs_dir=tmp_path)
    with pytest.warns(RuntimeWarning, match="finetui watches nothing: ZeroDivisionError"):
        run.__enter__()
    with run:
        assert sum(1 for _ in run.steps(range(5))) == 5


def test_warnings_that_are_errors_raise_nothing(tmp_path: Path) -> None:
    with warnings.catch_warnings(), watching(tmp_path)() as run:
        warnings.simplefilter("error")
        run.log(loss=torch.ones(3), accuracy=0.5)
        assert run.active
    messages = [event.message for event in journal_of(RunFolder(tmp_path / "own")) if isinstance(event, events.Log)]
    assert messages == ["run.log(loss=...) takes one number, and was given a tensor of (3,)"]


@pytest.mark.parametrize("classes", [range(4), [0, 1, 2, 3], torch.arange(4).numpy()])
def test_names_of_classes_need_not_be_text(tmp_path: Path, classes: Any) -> None:
    with watching(tmp_path, classes=classes)() as run:
        run.predictions(torch.eye(4), [0, 1, 2, 3])
    prepared = next(e for e in journal_of(RunFolder(tmp_path / "own")) if isinstance(e, events.RunPrepared))
    assert prepared.data.classes == ("0", "1", "2", "3")


@pytest.mark.parametrize(
    ("tell", "problem"),
    [
        (lambda run: run.evaluated(0.5, part="valid"), "part must be one of 'train', 'val', 'test', not 'valid'"),
        (lambda run: run.predictions(torch.eye(4), [0, 1, 2, 3], part="valid"), "part must be one of"),
        (lambda run: run.evaluated(0.5, n="many"), "n must be a whole number, and is a str"),
        (lambda run: run.epoch(None), "epoch must be a whole number"),
    ],
)
def test_a_part_or_number_that_there_is_not(tmp_path: Path, tell: Any, problem: str) -> None:
    with watching(tmp_path)() as run:
        with pytest.warns(RuntimeWarning, match=problem):
            tell(run)
        assert run.active


def test_a_metric_that_is_no_number_is_left_out(tmp_path: Path) -> None:
    with watching(tmp_path)() as run:
        for _ in range(2):
            run.evaluated(0.5, matrix=[[1, 2]], name="text", nothing=None, f1=0.25)
        assert run.active
    told = journal_of(RunFolder(tmp_path / "own"))
    assert [dict(e.others) for e in told if isinstance(e, events.Evaluated)] == [{"f1": 0.25}] * 2
    assert [event.message for event in told if isinstance(event, events.Log)] == [
        "the metric matrix is left out: it is not a number, but a list",
        "the metric name is left out: it is not a number, but a str",
    ]


def test_an_evaluation_draws_from_none_of_the_loops_random_numbers(tmp_path: Path) -> None:
    net = torch.nn.Sequential(OwnNet())
    net.train()
    with pytest.raises(BadInput), undisturbed(net, "it"):
        net.eval()
        random.seed(1)
        np.random.seed(1)
        expected = random.random(), np.random.random()
        raise OwnError
    assert all(module.training for module in net.modules())
    assert (random.random(), np.random.random()) != expected
    before = random.getstate(), np.random.get_state()[1].tolist()
    with undisturbed(net, "it"):
        random.random()
        np.random.random(700)
    assert (random.getstate(), np.random.get_state()[1].tolist()) == before


def test_numbers_of_a_loop_that_tells_of_no_steps_do_not_pile_up(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("finetui.engine.watching.loop_meter._MOST_LOGGED", 3)
    meter = LoopMeter()
    for number in range(5):
        meter.log({"loss": number})
    assert meter.take()[1] == {"loss": [0.0, 1.0, 2.0]}
