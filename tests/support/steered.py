"""Sessions that are steered by a script: commands that take effect after exactly so many steps."""

from collections.abc import Callable

import torch

from finetui.engine.protocol import events
from finetui.engine.protocol.commands import (
    AnyCommand,
)
from finetui.engine.protocol.config_file import load
from finetui.engine.protocol.queues import CommandQueue
from finetui.engine.runs.folder import RunFolder
from finetui.engine.session.replay import replay_run
from finetui.engine.session.session import Session

Script = Callable[[int], AnyCommand | None]


def at(*lines: tuple[int, AnyCommand]) -> Script:
    """Return a script that gives each command once, as soon as its step was taken."""
    waiting = list(lines)

    def script(step: int) -> AnyCommand | None:
        return waiting.pop(0)[1] if waiting and step >= waiting[0][0] else None

    return script


def assert_resumed_and_replayed_to_the_same_bits(whole: RunFolder | None, cut: RunFolder | None) -> None:
    """Go on with the run `cut`, which was stopped, and compare it with `whole`, which was not; then replay it."""
    assert whole is not None
    assert cut is not None
    Session(load(cut.config), resume=cut).run()
    first, second = (torch.load(folder.last, weights_only=True)["model"] for folder in (whole, cut))
    assert all(torch.equal(first[name], second[name]) for name in first)
    assert replay_run(cut).different_at is None


class Replies:
    """A sink that sends commands when it hears something: `on(kind, test) -> command`."""

    def __init__(self, *lines: tuple[Callable[[events.AnyEvent], bool], list]) -> None:
        self.commands = CommandQueue()
        self._lines = list(lines)

    def __call__(self, event: events.AnyEvent) -> None:
        if self._lines and self._lines[0][0](event):
            for command in self._lines.pop(0)[1]:
                self.commands.put(command)


def state(name: str) -> Callable[[events.AnyEvent], bool]:
    return lambda event: isinstance(event, events.StateChanged) and event.state == name


def accepted(kind: type) -> Callable[[events.AnyEvent], bool]:
    return lambda event: isinstance(event, events.CommandAccepted) and isinstance(event.command, kind)
