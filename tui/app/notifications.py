"""Telling a person who looks elsewhere: a bell, or a notification of the terminal's own (OSC 9)."""

import time
from collections.abc import Callable, Iterable
from typing import Literal

from finetui.engine.protocol.events import (
    ENDED,
    Alert,
    AnyEvent,
    Evaluated,
    Rewound,
    RunPrepared,
    RunStarted,
    StateChanged,
)
from finetui.engine.runs.summaries import best_accuracy
from finetui.engine.text import clean
from finetui.tui.state.parts import last_and_best
from finetui.tui.terminal.tmux import through_tmux

Notify = Literal["off", "bell", "osc9"]
_LIMIT = 250  # characters
_BELL = "\x07"


class Notifier:
    """Tells of alerts, and of a run's end, as they happen; what a journal tells of the past is no news.

    `write` brings characters to the terminal in its turn with all others: written beside them, they could end up
    within a sequence.
    """

    def __init__(self, how: Notify, write: Callable[[str], None], *, since: float | None = None) -> None:
        """Tell of events from `since` on (Unix seconds, by default now)."""
        self._how = how
        self._write = write
        self._since = time.time() if since is None else since
        self._name = ""
        self._best: float | None = None
        self._last: Evaluated | None = None
        self._test: Evaluated | None = None
        self._seen_alive = False

    def hear(self, events: Iterable[AnyEvent]) -> None:
        """Tell of those among `events` (harmless ones, see `finetui.tui.state.sanitize`) that a person waits for."""
        for event in events:
            text = self._news(event)
            if text and self._how != "off":
                self._write(_BELL if self._how == "bell" else _osc9(f"finetui: {text}"))

    def _news(self, event: AnyEvent) -> str:
        # What the dashboard itself says, that an engine is gone, has no time: of a run seen alive that is news.
        is_news = event.time >= self._since if event.time else self._seen_alive
        self._seen_alive |= event.time >= self._since
        match event:
            case RunPrepared():
                self._name, self._best = event.config.run.name, None
                self._last = self._test = None
            case RunStarted():
                self._name = event.name
            case Rewound():
                self._best = event.best_accuracy
                self._last, self._test = (
                    None if found is None or found.step > event.step else found for found in (self._last, self._test)
                )
            case Evaluated(watched=False):
                self._test = event if event.part == "test" else self._test
            case Evaluated():
                self._last, self._best = event, best_accuracy(self._best, event)
            case Alert() if is_news:
                return f"{self._name}: {event.kind}: {event.message}"
            case StateChanged() if is_news and event.state in ENDED:
                said = last_and_best(self._last, self._best, self._test)
                said = f", {said}" if said else ""
                reason = f": {event.reason}" if event.reason else ""
                return f"{self._name or 'the run'} {event.state} at step {event.step:,}{said}{reason}"
        return ""


def _osc9(text: str) -> str:
    sequence = f"\x1b]9;{clean(text, _LIMIT)}{_BELL}"
    return through_tmux(sequence) or sequence
