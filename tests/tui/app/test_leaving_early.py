"""Every screen, taken away at each moment before it is there: its widgets come one after the other."""

import asyncio
from pathlib import Path

import pytest
from canned_predictions import AnsweringLink, saved
from errors_pilot import events_of
from pilot import DashboardPilot, open_app
from textual.dom import DOMNode

from finetui.engine.predictions.file import Predictions
from finetui.engine.runs.folder import RunFolder
from finetui.tui.app.app import FinetuiApp
from finetui.tui.screens.runs.preview import Preview
from finetui.tui.state.run_comparison import History
from finetui.tui.widgets.compound import Compound

# Keys that lead from the Train screen to each of the others.
VISITS = {
    "errors": ("m",),
    "layers": ("g",),
    "log": ("o",),
    "runs": ("r",),
    "machine": ("M",),
    "checkpoints": ("c",),
    "finetune": ("f",),
    "extend": ("E",),
    "help": ("question_mark",),
    "palette": ("ctrl+p",),
    "picture of a plot": ("greater_than_sign",),
    "matrix": ("m", "C"),
    "scores": ("m", "S"),
    "compare": ("m", "D"),
    "filter": ("m", "slash"),
    "export": ("m", "greater_than_sign"),
}
_TURNS = 4  # of the event loop, in which a screen gets its widgets, and these get theirs
_MOST = 60  # turns until a screen is gone


async def _open(pilot: DashboardPilot, key: str, turns: int) -> bool:
    """Press the key, and let so many turns pass from when its screen is in front; return whether it is there."""
    app = pilot.app
    below = app.screen
    pilot._send(key)
    while app.screen is below:
        await asyncio.sleep(0)
    for _ in range(turns):
        await asyncio.sleep(0)
    return bool(app.screen.is_mounted)


@pytest.mark.parametrize("name", VISITS)
async def test_a_screen_that_is_dismissed_while_it_comes(link: AnsweringLink, name: str) -> None:
    *way, key = VISITS[name]
    app = FinetuiApp(link)
    async with open_app(app, size=(120, 40)) as pilot:
        await pilot.settle()
        await pilot.press(*way)
        await pilot.settle()
        below = app.screen
        for turns in range(_TURNS):
            assert not await _open(pilot, key, turns)
            app.screen.dismiss(None)
            await pilot.drawn()
            assert app.failure is None
            assert app.screen is below


@pytest.mark.parametrize("turns", [0, 1, 2, 3])
@pytest.mark.parametrize("name", ["layers", "finetune", "machine"])
async def test_a_program_that_is_left_while_a_screen_comes(
    tmp_path: Path, found: Predictions, name: str, turns: int
) -> None:
    saved(tmp_path, found)
    app = FinetuiApp(AnsweringLink(*events_of(tmp_path)))
    async with open_app(app, size=(120, 40)) as pilot:
        await pilot.settle()
        await _open(pilot, *VISITS[name], turns)
        app.exit()
    assert app.failure is None


async def test_what_a_widget_works_at_ends_with_its_screen(
    link: AnsweringLink, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    app = FinetuiApp(link)
    async with open_app(app, size=(200, 60)) as pilot:
        await pilot.settle()
        await pilot.press("r")
        await pilot.settle()
        runs = app.screen
        worker = runs.query_one(Preview)._read(History(RunFolder(tmp_path)))
        await asyncio.sleep(0)
        runs.dismiss(None)
        for _ in range(_MOST):
            if runs._pruning:
                break
            await asyncio.sleep(0)
        assert worker.is_cancelled


def test_every_widget_with_parts_knows_when_they_are_gone() -> None:
    """A widget that is composed is a `Compound`, or a screen, which is one as well."""
    kinds: list[type[DOMNode]] = [DOMNode]
    for kind in kinds:
        kinds += kind.__subclasses__()
    composed = {kind for kind in kinds if kind.__module__.startswith("finetui.") and "compose" in vars(kind)}
    assert len(composed) > 20
    assert {kind.__qualname__ for kind in composed if not issubclass(kind, Compound)} == set()
