"""What a run does not tell is not an empty frame: it says why there is nothing, and what would change that."""

from pathlib import Path

import msgspec
import numpy as np
import pytest
from canned import evaluated, prepared, running
from canned_predictions import AnsweringLink, predictions, saved
from pilot import DashboardPilot, open_app, picture
from textual.widgets import Static

from finetui.engine.link.watch_link import WatchLink
from finetui.engine.protocol.capabilities import Capabilities
from finetui.engine.protocol.commands import ExplainImage, FindDuplicates
from finetui.engine.protocol.events import AnyEvent, RunStarted, StateChanged
from finetui.engine.sources.watched_runs import WatchedRuns
from finetui.tui.app.app import FinetuiApp
from finetui.tui.screens.machine.screen import MachineScreen
from finetui.tui.screens.train.controls import Controls
from finetui.tui.screens.train.layer_list import LayerList, LayerRows
from finetui.tui.screens.train.per_class_table import PerClassTable
from finetui.tui.screens.train.settings_panel import SettingsPanel
from finetui.tui.widgets.key_bar import KeyBar
from finetui.tui.widgets.lines_view import LinesView
from finetui.tui.widgets.styled_line import StyledLine

PYTORCH = Path(__file__).parents[2] / "fixtures" / "watched" / "pytorch"
SIZES = [(80, 24), (120, 40), (200, 60)]
FILES = "These files have no"


def said(view: LinesView) -> str:
    """Return what the lines of `view` say."""
    strips = [view.render_line(y) for y in range(view.scrollable_content_region.height)]
    return " ".join(" ".join(strip.text for strip in strips).split())


def keys(pilot: DashboardPilot) -> str:
    return pilot.app.screen.query_one(KeyBar)._content.plain


@pytest.fixture
def of_files(monkeypatch: pytest.MonkeyPatch) -> FinetuiApp:
    monkeypatch.setattr(WatchLink, "run", WatchLink.look)
    runs = WatchedRuns([PYTORCH])
    (found,) = runs.found()
    return FinetuiApp(WatchLink(found), watched=runs)


@pytest.mark.parametrize("size", SIZES)
async def test_the_frames_of_watched_files(of_files: FinetuiApp, size: tuple[int, int]) -> None:
    async with open_app(of_files, size=size) as pilot:
        await pilot.until(lambda: "step 39" in " ".join(picture(pilot.app).split()))
        screen = pilot.app.screen
        await pilot.press("9")  # the classes, where these are a tab
        await pilot.settle()
        classes = said(screen.query_one(PerClassTable).query_one("#class-rows", LinesView))
        assert classes.startswith(f"{FILES} predictions. To see classes,") and classes.endswith(
            "run.predictions(probabilities, labels, images)."
        )
        assert screen.query_one("#class-heading", StyledLine)._content.plain == ""
        layers = said(screen.query_one(LayerRows))
        assert layers == f"{FILES} layers. To see them, use finetui.watch(model, optimizer) in the training."
        assert "to freeze" not in screen.query_one(LayerList).query_one("#tree-heading", StyledLine)._content.plain
        hint = screen.query_one(Controls).query_one("#hint", StyledLine)
        assert hint.render_line(0).text.strip() == "Read from files: nothing to steer"
        if screen.query_one(SettingsPanel).display:
            assert said(screen.query_one(SettingsPanel)) == "" or screen.query_one(SettingsPanel)._rows
        for word in ("Pause", "Resume", "Finetune", "Freeze", "Images"):
            assert word not in keys(pilot), word


async def test_the_screens_of_watched_files(of_files: FinetuiApp) -> None:
    async with open_app(of_files, size=(80, 24)) as pilot:
        await pilot.until(lambda: "step 39" in " ".join(picture(pilot.app).split()))
        await pilot.press("g")
        await pilot.until(lambda: f"{FILES} layers" in picture(pilot.app))
        assert "0 of 0" not in picture(pilot.app) and "none" not in picture(pilot.app)
        assert "Freeze" not in keys(pilot)
        await pilot.press("m")
        await pilot.until(lambda: f"{FILES} predictions" in picture(pilot.app))
        assert "finetui errors" not in picture(pilot.app)
        await pilot.press("M")
        await pilot.until(lambda: isinstance(pilot.app.screen, MachineScreen))
        assert str(pilot.app.screen.query_one("#machine-message", Static).content).startswith(f"{FILES} machine")


def ended_loop(*more: AnyEvent, **changes: object) -> list[AnyEvent]:
    """Return the events of somebody's own loop that has ended, as its journal tells them."""
    left = Capabilities(commands=("FetchImages",), why_no_others="the loop has ended, and its network with it")
    begun = prepared(capabilities=left, hparams={"epochs": 2}, **changes)
    return [begun, *running()[1:], *more, StateChanged(state="finished")]


async def test_the_frames_of_a_loop_that_told_of_no_network_and_no_predictions() -> None:
    app = FinetuiApp(AnsweringLink(*ended_loop(classes=(), layers=(), parameters=0)))
    async with open_app(app, size=(120, 40)) as pilot:
        await pilot.settle()
        classes = said(pilot.app.screen.query_one(PerClassTable).query_one("#class-rows", LinesView))
        assert classes.startswith("This loop has logged no predictions.")
        assert said(pilot.app.screen.query_one(LayerRows)).startswith("This loop has no registered model.")
        assert "Press e" not in picture(pilot.app) and "nothing to steer" in picture(pilot.app)


async def test_what_an_ended_loop_cannot_answer_is_not_asked_and_said_once_somebody_wants_it(tmp_path: Path) -> None:
    found = predictions()
    saved(tmp_path, found)
    link = AnsweringLink(
        *ended_loop(
            RunStarted(name="a-run", path=str(tmp_path)),
            msgspec.structs.replace(evaluated(1, 0.9), predictions="last.predictions"),
        )
    )
    app = FinetuiApp(link)
    async with open_app(app, size=(80, 24)) as pilot:
        await pilot.press("m")
        await pilot.until(lambda: "Misclassified" in picture(app))
        await pilot.settle()
        listed = app.screen._listing.rows
        assert "mistakes" in picture(app)  # no refusal stands in the place of the tabs
        for key, words in (("i", "Explain: the loop has ended"), ("U", "Duplicates: the loop has ended")):
            await pilot.press(key)
            await pilot.until(lambda words=words: words in " ".join(picture(app).split()))
        assert link.asked(FindDuplicates) == [] and link.asked(ExplainImage) == []
        assert np.array_equal(app.screen._listing.rows, listed)
