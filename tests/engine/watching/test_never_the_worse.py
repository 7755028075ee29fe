"""A loop is never the worse for being watched: same bits, same exceptions, nothing left, nothing printed."""

import copy
import gc
import random
import signal
import sys
import threading
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from own_loop import OwnError, OwnLoop, OwnNet, descriptors, images_and_labels, journal_of, own_loader, watched_in
from torch.nn import functional as F
from torch.optim.optimizer import _global_optimizer_post_hooks, _global_optimizer_pre_hooks
from watching import until

import finetui
from finetui.engine.errors import BadInput
from finetui.engine.protocol import events
from finetui.engine.runs.folder import RunFolder
from finetui.engine.runs.summaries import summarise_run
from finetui.engine.watching.saving import undisturbed


def train(run: Any = None, epochs: int = 2, batch_size: int = 8) -> dict[str, torch.Tensor]:
    """Train as `OwnLoop` does, in `run` if there is one; return the weights."""
    torch.manual_seed(5)
    net, images = OwnNet(), images_and_labels()[0]
    optimizer = torch.optim.AdamW(net.parameters(), lr=0.01)
    net.block1.requires_grad_(False)  # with batch statistics that go on drifting, as people's do

    def loop(steps: Any, told: Any) -> None:
        for _ in range(epochs):
            net.train()
            for inputs, labels in steps(own_loader(batch_size)):
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


def test_the_same_bits_as_without(tmp_path: Path) -> None:
    plain, watched = train(), train(watched_in(tmp_path))
    assert all(torch.equal(plain[name], watched[name]) for name in plain)


def test_nothing_is_left_and_nothing_printed(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    train(watched_in(tmp_path))  # imports
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


@pytest.mark.parametrize(
    ("error", "state", "reason"),
    [
        (OwnError("as it is"), "crashed", "OwnError: as it is"),
        (KeyboardInterrupt(), "stopped", "interrupted from the keyboard"),
        (SystemExit(3), "stopped", "the program exited with 3"),
    ],
)
def test_what_is_raised_passes_through(tmp_path: Path, error: BaseException, state: str, reason: str) -> None:
    def fail() -> None:
        raise error

    with pytest.raises(type(error)) as raised, watched_in(tmp_path)() as run:
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
        with watched_in(tmp_path)() as run:
            assert run.folder == tmp_path / name
            for _ in run.steps([1, 2]):
                pass
        assert summarise_run(RunFolder(tmp_path / name)).state == "finished"


def test_two_runs_at_once_loops_within_loops_and_loops_that_are_left_early(tmp_path: Path) -> None:
    nets = [OwnNet(), OwnNet()]
    optimizers = [torch.optim.SGD(net.parameters(), lr=0.1) for net in nets]
    images, labels = images_and_labels()
    seen: list[set[float]] = [set(), set()]
    for one, rates in zip(optimizers, seen, strict=True):
        one.register_step_pre_hook(lambda one, *_, rates=rates: rates.add(one.param_groups[0]["lr"]))

    def step(which: int) -> None:
        optimizers[which].zero_grad()
        F.cross_entropy(nets[which](images[:4]), labels[:4]).backward()
        optimizers[which].step()

    runs = [finetui.watch(net, one, runs_dir=tmp_path) for net, one in zip(nets, optimizers, strict=True)]
    with runs[0] as outer, runs[1] as inner:
        outer._loop.optimizers.factor = 0.5  # of the one run, and not of the other
        for number in outer.steps(range(10)):
            for within in inner.steps(range(5)):
                step(1)
                if within == 2:
                    break
            step(0)
            if number == 3:
                break
        for _ in outer.steps(range(2)):
            for _ in outer.steps(range(3)):
                step(0)
        assert [run._loop.step for run in runs] == [3 + 2 * 3 + 2, 4 * 2]
        assert [run._loop.optimizers.there for run in runs] == [[one] for one in optimizers]
        assert [one.param_groups[0]["lr"] for one in optimizers] == [0.1, 0.1]
        folders = [RunFolder(run.folder) for run in runs]
    assert folders[0] != folders[1]
    assert seen == [{0.05}, {0.1}]
    for folder, rate in zip(folders, (0.05, 0.1), strict=True):
        told = journal_of(folder)
        assert told[-1].state == "finished"
        rates = [event.learning_rate for event in told if isinstance(event, events.TrainPoint)]
        assert rates == [pytest.approx(rate)] * len(rates)
        assert rates


def test_a_profiler_and_a_debugger_see_the_loop(tmp_path: Path) -> None:
    few = {"epochs": 1, "batch_size": 48}  # two steps
    plain = train(**few)
    train(watched_in(tmp_path / "before"), **few)  # what is imported by then is not traced: that takes seconds
    traced: set[str] = set()
    with torch.profiler.profile(activities=[torch.profiler.ProfilerActivity.CPU]) as profile:
        sys.settrace(lambda frame, _kind, _argument: traced.add(frame.f_code.co_name))
        try:
            watched = train(watched_in(tmp_path), **few)
        finally:
            sys.settrace(None)
    assert {"loop", "forward", "__iter__"} <= traced
    assert sum(event.name.startswith("Optimizer.step#AdamW") for event in profile.events()) == 2
    assert all(torch.equal(plain[name], watched[name]) for name in plain)


def test_a_loop_in_a_thread_changes_no_signal(tmp_path: Path) -> None:
    before = signal.getsignal(signal.SIGINT), signal.getsignal(signal.SIGTERM)
    with OwnLoop(tmp_path, epochs=2) as loop:
        until(lambda: loop.steps > 3)
        assert (signal.getsignal(signal.SIGINT), signal.getsignal(signal.SIGTERM)) == before
        loop.wait()
    assert loop.error is None


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
