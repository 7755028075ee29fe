"""The Errors screen where predictions are new, not there yet, damaged, or without their engine."""

from pathlib import Path

import msgspec
import numpy as np
import pytest
from canned import evaluated, running
from canned_predictions import AnsweringLink, predictions, saved
from errors_pilot import by_loss, events_of, line, listed, opened
from pilot import open_app, picture

from finetui.engine.protocol.commands import Evaluate
from finetui.engine.protocol.events import RunStarted, StateChanged
from finetui.tui.app.app import FinetuiApp
from finetui.tui.screens.errors.screen import ErrorsScreen


async def test_a_newer_evaluation_is_offered_and_not_forced(link, tmp_path: Path, found) -> None:
    app = FinetuiApp(link)
    async with open_app(app, size=(120, 40)) as pilot:
        screen = await opened(pilot)
        rows = listed(screen)
        await pilot.press("right", "right")
        newer = predictions(seed=3, right=0.9)
        saved(tmp_path, newer)
        link.events.put(msgspec.structs.replace(evaluated(2, 0.95), predictions="last.predictions"))
        await pilot.settle()
        assert listed(screen) == rows
        assert "press N" in line(screen, "filter")
        await pilot.press("N")
        await pilot.settle()
        assert listed(screen) == by_loss(newer, np.flatnonzero(newer.wrong))


async def test_before_the_first_evaluation_it_says_so_and_then_shows_it(tmp_path: Path, found) -> None:
    link = AnsweringLink(*running())
    app = FinetuiApp(link)
    async with open_app(app, size=(80, 24)) as pilot:
        screen = await opened(pilot)
        assert "No evaluation yet. Press e to evaluate now." in picture(app)
        assert not screen.active_bindings["slash"].enabled  # its key is shown as such
        await pilot.press("v", "O", "/", "C", "D", ">", "i", "space", "enter", "!", "y", "1")  # nothing of it does harm
        await pilot.settle()
        assert app.screen is screen
        await pilot.press("e")
        await pilot.settle()
        assert [command.part for command in link.asked(Evaluate)] == [""]
        assert "Evaluating…" in picture(app)
        saved(tmp_path, found)
        link.events.put(RunStarted(name="a-run", path=str(tmp_path)))
        link.events.put(msgspec.structs.replace(evaluated(1, 0.9), predictions="last.predictions"))
        await pilot.settle()
        assert listed(screen)
        assert screen.active_bindings["slash"].enabled


@pytest.mark.parametrize("content", [None, b"", b"\0" * 100, b"garbage" * 1000])
async def test_a_file_that_cannot_be_used_is_said_in_words(tmp_path: Path, content: bytes | None) -> None:
    if content is not None:
        (tmp_path / "last.predictions").write_bytes(content)
    app = FinetuiApp(AnsweringLink(*events_of(tmp_path)))
    async with open_app(app, size=(80, 24)) as pilot:
        await opened(pilot)
        assert "evaluate again" in " ".join(picture(app).split())  # wherever the path is wrapped
        await pilot.press("escape")
        await pilot.settle()
        assert not isinstance(app.screen, ErrorsScreen)


async def test_an_evaluation_of_an_older_version_says_how_to_get_its_predictions(tmp_path: Path) -> None:
    app = FinetuiApp(AnsweringLink(*events_of(tmp_path, file="")))
    async with open_app(app, size=(120, 40)) as pilot:
        await opened(pilot)
        assert "`finetui errors " in picture(app)
        assert "computes them" in picture(app)


async def test_a_lost_engine_leaves_the_list_and_says_why_there_are_no_images(tmp_path: Path, found) -> None:
    class Dead(AnsweringLink):
        def send(self, command) -> None:
            self.sent.append(command)

    saved(tmp_path, found)
    link = Dead(*events_of(tmp_path))
    app = FinetuiApp(link)
    async with open_app(app, size=(120, 40)) as pilot:
        screen = await opened(pilot)
        assert listed(screen)
        link.events.put(StateChanged(state="crashed", reason="it was killed"))
        await pilot.settle()
        assert "it was killed" in picture(app)
        await pilot.press("right", "v")
        await pilot.settle()
        assert listed(screen)
