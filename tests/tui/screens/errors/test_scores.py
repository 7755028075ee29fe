"""The Scores screen, over the Errors screen and alone."""

from pathlib import Path

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


async def test_any_class_name_and_a_temperature_keep_their_columns() -> None:
    found = predictions(10_000, classes=HOSTILE)
    app = ScreenApp(ScoresScreen(scores_of(found), "test", 1.5))
    async with open_app(app, size=(80, 24)) as pilot:
        await pilot.settle()
        assert f"{'temperature':<28}1.5000" in picture(app)
        assert "n = 10,000)" in picture(app)  # not on two lines
        await pilot.press("end")
        await pilot.settle()
        assert "weighted avg" in picture(app)


async def test_many_classes_are_drawn_only_where_they_are_in_sight() -> None:
    found = predictions(400, classes=tuple(f"kind{index}" for index in range(300)))
    app = ScreenApp(ScoresScreen(scores_of(found), "test", 1.0))
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
    scores = scores_of(predictions())
    empty = [found for found in scores.calibration if not found.count]
    assert empty
    app = ScreenApp(ScoresScreen(scores, "test", 1.0))
    async with open_app(app, size=(200, 60)) as pilot:
        await pilot.settle()
        assert all(f"{100 * found.low:3.0f} to {found.high:4.0%}" not in picture(app) for found in empty)


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
