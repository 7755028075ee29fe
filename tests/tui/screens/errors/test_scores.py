"""The Scores screen, over the Errors screen and alone."""

from pathlib import Path

import msgspec
import numpy as np
import pytest
from canned_predictions import AnsweringLink, predictions, saved
from errors_pilot import HOSTILE, SIZES, ScreenApp, events_of, opened
from pilot import open_app, picture

from finetui.engine.predictions.file import Predictions
from finetui.engine.predictions.metrics import scores_of
from finetui.tui.app.app import FinetuiApp
from finetui.tui.screens.errors.scores import ScoresScreen
from finetui.tui.state.scores import diagram


@pytest.mark.parametrize("size", SIZES)
async def test_scores_and_diagram_of_what_is_shown(tmp_path: Path, size) -> None:
    found = predictions()
    saved(tmp_path / "run", found)
    link = AnsweringLink(*events_of(tmp_path / "run"))
    async with open_app(FinetuiApp(link), size=size) as pilot:
        await opened(pilot)
        await pilot.press("S")
        await pilot.settle()
        assert isinstance(pilot.app.screen, ScoresScreen)
        shown = picture(pilot.app)
        scores = scores_of(found)
        assert f"{scores.accuracy:.2%} (95% CI" in shown
        assert f"{scores.log_loss:.4f}" in shown
        assert "27 to  33%" in shown
        await pilot.press("end")
        await pilot.settle()
        assert "weighted avg" in picture(pilot.app)
        await pilot.press("escape")
        await pilot.settle()
        assert not isinstance(pilot.app.screen, ScoresScreen)


async def test_a_key_pressed_while_scores_are_computed_is_theirs(tmp_path: Path) -> None:
    saved(tmp_path / "run", predictions())
    async with open_app(FinetuiApp(AnsweringLink(*events_of(tmp_path / "run")))) as pilot:
        errors = await opened(pilot)
        await pilot.press_at_once("S", "v", "space")
        await pilot.settle()
        assert isinstance(pilot.app.screen, ScoresScreen)
        assert errors._listing.selection.show == "wrong"
        assert not errors._marked


def _softened(found: Predictions, temperature: float) -> Predictions:
    """Return the predictions, said to be of logits divided by `temperature`."""
    found.origin = msgspec.structs.replace(found.origin, temperature=temperature)
    return found


async def test_any_class_name_and_a_temperature_keep_their_columns() -> None:
    found = predictions(10_000, classes=HOSTILE)
    app = ScreenApp(ScoresScreen(_softened(found, 1.5)))
    async with open_app(app, size=(80, 24)) as pilot:
        await pilot.settle()
        assert f"{'temperature':<28}1.5000" in picture(app)
        assert "n = 10,000)" in picture(app)  # not on two lines
        await pilot.press("end")
        await pilot.settle()
        assert "weighted avg" in picture(app)


async def test_many_classes_are_drawn_only_where_they_are_in_sight() -> None:
    found = predictions(400, classes=tuple(f"kind{index}" for index in range(300)))
    app = ScreenApp(ScoresScreen(found))
    async with open_app(app, size=(120, 40)) as pilot:
        await pilot.settle()
        rows = app.screen.query_one("#many-rows")
        assert len(rows._drawn) <= rows.size.height
        assert "kind3 " in picture(app)
        rows.focus()
        await pilot.press("end")
        await pilot.settle()
        assert "weighted avg" in picture(app)


async def test_the_diagram_leaves_out_what_holds_no_images() -> None:
    found = predictions()
    empty = [bin_ for bin_ in scores_of(found).calibration if not bin_.count]
    assert empty
    app = ScreenApp(ScoresScreen(found))
    async with open_app(app, size=(200, 60)) as pilot:
        await pilot.settle()
        assert all(f"{100 * bin_.low:3.0f} to {bin_.high:4.0%}" not in picture(app) for bin_ in empty)


def test_a_bar_shows_which_of_accuracy_and_confidence_is_more() -> None:
    found = predictions(2000)
    sure = Predictions(
        found.origin,
        {name: getattr(found, name) for name in ("index", "label", "predicted", "loss", "margin")}
        | {"confidence": np.where(found.wrong, 0.99, 0.5)},
        found._top,
        found._top_probability,
        found.files,
    )
    head, *lines = diagram(scores_of(sure).calibration, 79)
    assert all(len(line) <= 79 for line in (head, *lines))
    assert len(lines) == 15
    # Always right where it is half sure, always wrong where it is certain.
    assert lines[7].split()[4:6] == ["100.0%", "50.0%"] and lines[7].endswith("━")
    assert lines[14].split()[4:6] == ["0.0%", "99.0%"] and lines[14].endswith("│")
    assert "━" not in lines[14]
