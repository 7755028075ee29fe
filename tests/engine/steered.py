"""Sessions that are steered by a script: commands that take effect after exactly so many steps."""

from collections.abc import Callable

import torch

from engine.commands import AnyCommand
from engine.config import load
from engine.replay import replay_run
from engine.runs import RunFolder
from engine.session import Session

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
