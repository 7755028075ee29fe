"""What opening a box costs, counted and not timed."""

import pytest
from canned import CannedLink, point, running
from pilot import open_app, picture
from textual.widget import Widget

from finetui.tui.app.app import FinetuiApp
from finetui.tui.screens.base import ModalScreen
from finetui.tui.screens.help import HelpScreen


async def test_the_help_is_a_few_widgets_however_many_keys_it_tells_of() -> None:
    app = FinetuiApp(CannedLink(*running(point(10))))
    async with open_app(app, size=(120, 40)) as pilot:
        await pilot.settle()
        await pilot.press("question_mark")
        await pilot.settle()
        assert isinstance(app.screen, HelpScreen)
        assert len(app.screen._lines) > 30
        assert len(app.screen.query("*")) < 12  # each is styled, laid out and rendered


@pytest.mark.parametrize("width", [80, 120])
async def test_what_a_key_does_is_wrapped_beside_its_key(width: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("finetui.tui.screens.help.told", lambda _about: [("", "Part"), ("x", "word " * 40)])
    app = FinetuiApp(CannedLink(*running(point(10))))
    async with open_app(app, size=(width, 60)) as pilot:
        await pilot.settle()
        await pilot.press("question_mark")
        await pilot.settle()
        lines = [line for line in picture(app).splitlines() if "word word" in line]
        assert len(lines) > 1
        assert len({line.index("word") for line in lines}) == 1
        assert sum(line.count("word") for line in lines) == 40


async def test_a_box_renders_nothing_of_what_lies_behind_it(monkeypatch: pytest.MonkeyPatch) -> None:
    app = FinetuiApp(CannedLink(*running(point(10))))
    async with open_app(app, size=(120, 40)) as pilot:
        await pilot.settle()
        await pilot.press("question_mark")
        await pilot.settle()
        rendered: list[Widget] = []
        render_lines = Widget.render_lines
        monkeypatch.setattr(
            Widget, "render_lines", lambda self, crop: (rendered.append(self), render_lines(self, crop))[1]
        )
        title = app.screen.query_one("#title")
        title.refresh()
        await pilot.drawn()
        assert isinstance(app.screen, ModalScreen)
        assert title in rendered
        assert app.screen not in rendered
