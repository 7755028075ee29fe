"""Somebody at a dashboard, who steers what this process trains through the run's socket: a script in a thread."""

import threading
import traceback
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from digits import Digits, moved, weights
from watching import Watcher, until

from finetui.engine.link.attach_link import AttachLink
from finetui.engine.protocol import commands, events
from finetui.engine.runs.folder import RunFolder
from finetui.engine.runs.journal import JournalReader
from finetui.engine.runs.lock import is_live


class Person:
    """Does `script(person)` with the first run in `runs_dir`, while it is open; stops the run where that fails."""

    def __init__(self, runs_dir: Path, script: Callable[["Person"], None]) -> None:
        self._runs_dir, self._script = runs_dir, script
        self._thread = threading.Thread(target=self._act, daemon=True)
        self._problem = ""
        self.watcher: Watcher | None = None

    def __enter__(self) -> "Person":
        self._thread.start()
        return self

    def __exit__(self, kind: type | None, *_: object) -> None:
        self._thread.join(60)
        assert not self._problem, self._problem
        assert not self._thread.is_alive()

    def _act(self) -> None:
        try:
            until(lambda: self._run() is not None, "there is no run")
            self.watcher = Watcher(AttachLink(self._run()))
            self.watcher.until_state("running")
            self._script(self)
        except BaseException:  # noqa: BLE001  # it fails the test, once the training has ended
            self._problem = traceback.format_exc()
            if self.watcher is not None:
                self.watcher.link.send(commands.Stop())
        finally:
            if self.watcher is not None:
                self.watcher.close()

    def _run(self) -> RunFolder | None:
        folders = [RunFolder(path) for path in self._runs_dir.glob("*") if path.is_dir()]
        return next((folder for folder in folders if is_live(folder)), None)

    def evaluates_three_times(self, state: Callable[[], list[Any]]) -> tuple[int, list[bool]]:
        """Do so in the middle of an epoch of 20 steps, then let the run go on for 20 more, and stop it.

        Return the step, and whether each part of `state()` was the same before and after.
        """
        at = self.does(commands.Pause())
        while at < 20 or at % 20 != 5:
            self.does(commands.StepOnce())
            assert self.watcher is not None
            at = self.watcher.until_kind(events.TrainPoint).step
        before = state()
        for _ in range(3):
            self.does(commands.Evaluate())
        same = [one == other for one, other in zip(before, state(), strict=True)]
        self.does(commands.Resume())
        self.waits_for_step(at + 20)
        self.does(commands.Stop())
        return at, same

    def does(self, command: commands.AnyCommand) -> Any:
        """Send `command`, which has to be accepted; return the step that it was at."""
        reply = self.asks(command)
        assert isinstance(reply, events.CommandAccepted), reply
        return reply.step

    def asks(self, command: commands.AnyCommand) -> Any:
        """Send `command` and return its reply."""
        return self.watcher.ask(command)

    def waits_for_step(self, step: int) -> None:
        """Wait until so many steps are complete."""
        self.watcher.until(lambda event: event.step >= step)

    def last(self, kind: type) -> Any:
        """Return the last event of this kind that was heard."""
        return next(event for event in reversed(self.watcher.seen) if isinstance(event, kind))


def steers_everything(person: Person, seen: dict[str, Any], net: Any, rates: list[float], frozen: str) -> None:
    """Pause, step, evaluate, freeze the module `frozen` of `net`, thaw it, set the rate, stop; note what came of it.

    `rates` are those that the optimizer has used, one for each of its steps; the loop's own are 0.01 times 0.999
    to the power of the steps before.
    """
    at = person.does(commands.Pause())
    person.does(commands.StepOnce())
    assert person.watcher.until_kind(events.TrainPoint).step == at + 1
    seen["evaluated at"] = person.does(commands.Evaluate())
    assert person.last(events.Evaluated).step == at + 1
    before = weights(net)
    person.does(commands.SetFrozen(groups=(frozen,), frozen=True))
    person.does(commands.Resume())
    person.waits_for_step(at + 25)
    person.does(commands.Pause())
    seen["moved"] = moved(before, weights(net))
    person.does(commands.SetFrozen(groups=(frozen,), frozen=False))
    used = len(rates)
    person.does(commands.SetLearningRate(value=0.5))
    person.does(commands.SetLearningRate(value=0.0, factor=3.0))
    before = weights(net)
    person.does(commands.Resume())
    person.waits_for_step(at + 50)
    person.does(commands.Pause())
    seen["moved again"] = moved(before, weights(net))
    person.does(commands.Save())
    factors = [round(rate / (0.01 * 0.999**step), 6) for step, rate in enumerate(rates)]
    seen["factors"] = set(factors[:used]), set(factors[used:])
    seen["steps"] = person.does(commands.Stop())


def check_steered(found: list[dict[str, Any]], told: list[Any], frozen: str, count: int) -> None:
    """Check what `steers_everything` noted in each process, and the journal; `count` images are evaluated."""
    first, *others = found
    assert not [layer for layer in first["moved"] if layer.startswith(frozen)]
    assert first["moved"]
    assert [layer for layer in first["moved again"] if layer.startswith(frozen)]
    assert first["factors"] == ({1.0}, {3.0})
    assert first["last rate"] == pytest.approx(0.01 * 0.999 ** first["steps"])  # the scheduler knows of no factor
    assert first["steps taken"] == first["steps"]
    for other in others:
        assert other["steps taken"] == first["steps"]
        assert not moved(first["weights"], other["weights"])
    assert states(told)[-1] == "stopped"
    prepared = next(event for event in told if isinstance(event, events.RunPrepared))
    assert prepared.data.classes == tuple(Digits.classes)
    assert prepared.world == len(found)
    assert (prepared.data.channels, prepared.data.height, prepared.data.width) == (1, 28, 28)
    points = [event for event in told if isinstance(event, events.TrainPoint)]
    assert sum(point.steps for point in points) == points[-1].step == first["steps"]
    assert all(point.loss is not None and point.learning_rate for point in points)
    assert [point for point in points if point.accuracy is not None]
    assert {point.epoch for point in points} >= set(range(1, points[-1].epoch))
    evaluations = [event for event in told if isinstance(event, events.Evaluated)]
    # Each has seen all images, and none twice.
    assert [event.step for event in evaluations if event.step == first["evaluated at"]]
    assert all(event.n == count and event.step > 0 and event.predictions for event in evaluations)


def journal(runs_dir: Path) -> list[Any]:
    """Return the events of the only run in `runs_dir`."""
    (folder,) = (RunFolder(path) for path in runs_dir.glob("*") if path.is_dir())
    return list(JournalReader(folder.journal).read())


def states(told: list[Any]) -> list[str]:
    """Return the states that a run went through."""
    return [event.state for event in told if isinstance(event, events.StateChanged)]
