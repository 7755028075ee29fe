"""The Log screen: filters, following the end, and long lines."""

import pytest
from log_pilot import Run, opened, texts, title, top_line
from pilot import open_app, picture
from textual.content import Content
from textual.widgets import Input

from finetui.engine.protocol.events import Log
from finetui.tui.app.app import FinetuiApp
from finetui.tui.screens.log.log_view import JournalView
from finetui.tui.screens.log.screen import LogScreen

# -- choosing -----------------------------------------------------------------------------------------------


async def test_lines_are_filtered_as_one_types_and_escape_shows_all(run: Run) -> None:
    run.says(20)
    run.happens(Log(level="info", message="Something ELSE"))
    async with open_app(FinetuiApp(run.link)) as pilot:
        screen = await opened(pilot, run.link)
        await pilot.press("slash", *"mess")
        assert len(texts(screen)) == 20
        await pilot.press(*"age 1")
        assert texts(screen) == [f"message {n}" for n in range(10, 20)]
        assert "10 of 25 lines" in title(pilot)
        strips = screen._compositor.render_strips(pilot.app.size)
        marked = {s.text for strip in strips for s in strip if s.style and s.style.underline}
        assert "message 1" in marked
        await pilot.press("escape")
        assert len(texts(screen)) == 25
        assert isinstance(pilot.app.screen, LogScreen)
        await pilot.press("slash", *"else", "enter")
        assert texts(screen) == ["Something ELSE"]
        assert isinstance(screen.focused, JournalView)
        run.says(3)
        run.happens(Log(level="info", message="or else"))
        await pilot.until(lambda: texts(screen) == ["Something ELSE", "or else"])
        await pilot.press("escape")
        assert len(texts(screen)) == 29
        await pilot.press("escape")
        await pilot.until(lambda: not isinstance(pilot.app.screen, LogScreen))


async def test_a_filter_is_text_and_no_pattern(run: Run) -> None:
    run.happens(Log(level="info", message="a (b [c"))
    async with open_app(FinetuiApp(run.link)) as pilot:
        screen = await opened(pilot, run.link)
        screen.query_one(Input).value = "(b [C"
        await pilot.drawn()
        assert texts(screen) == ["a (b [c"]
        screen.query_one(Input).value = "."
        await pilot.drawn()
        assert texts(screen) == []
        assert "No matching lines" in picture(pilot.app)


async def test_only_warnings_and_errors(run: Run) -> None:
    run.happens(*(Log(level=level, message=level) for level in ("warning", "info", "error")))
    async with open_app(FinetuiApp(run.link)) as pilot:
        screen = await opened(pilot, run.link)
        await pilot.press("W")
        assert texts(screen) == ["warning", "error"]
        run.happens(*(Log(level=level, message=f"new {level}") for level in ("info", "error")))
        await pilot.until(lambda: texts(screen) == ["warning", "error", "new error"])
        await pilot.click("#tab-level")
        assert len(texts(screen)) == 9


# -- following ----------------------------------------------------------------------------------------------


async def test_the_end_is_followed_until_somebody_scrolls_up(run: Run) -> None:
    run.says(100)
    async with open_app(FinetuiApp(run.link)) as pilot:
        screen = await opened(pilot, run.link)
        view = screen.query_one(JournalView)
        assert "● follows" in title(pilot)
        run.says(1)
        await pilot.until(lambda: "message 104" in picture(pilot.app))
        await pilot.press("up", "up")
        assert "end: follow" in title(pilot)
        at = view.scroll_y
        top = top_line(pilot)
        run.says(30)
        await pilot.until(lambda: len(texts(screen)) == 135)
        assert view.scroll_y == at
        assert top_line(pilot) == top
        await pilot.press("end")
        assert "● follows" in title(pilot)
        run.says(1)
        await pilot.until(lambda: "message 135" in picture(pilot.app))
        await pilot.press("home")
        assert "ready" in picture(pilot.app)
        assert "end: follow" in title(pilot)


async def test_a_long_line_wraps_and_none_of_it_is_lost(run: Run) -> None:
    words = " ".join(f"word{n}" for n in range(60))
    run.happens(Log(level="info", message=words), Log(level="info", message="漢字" * 20))
    run.says(1)
    async with open_app(FinetuiApp(run.link), size=(80, 40)) as pilot:
        await opened(pilot, run.link)
        text = picture(pilot.app)
        found = [word for word in text.split() if word.startswith("word")]
        assert " ".join(found) == words
        assert sum(text.count(character) for character in "漢字") == 40
        await pilot.resize_terminal(200, 60)
        await pilot.until(lambda: "word0 word1" in picture(pilot.app))
        assert "message 6" in picture(pilot.app)


async def test_wrapping_anew_keeps_the_line_at_the_top(run: Run) -> None:
    run.happens(*(Log(level="info", message=f"entry{n} " + "long " * 30) for n in range(200)))
    async with open_app(FinetuiApp(run.link), size=(80, 24)) as pilot:
        screen = await opened(pilot, run.link)
        view = screen.query_one(JournalView)
        view.scroll_to(y=view._tops[100], animate=False)
        await pilot.until(lambda: "entry96 " in top_line(pilot))
        await pilot.resize_terminal(120, 24)
        await pilot.until(
            lambda: title(pilot).rstrip().endswith("follow") and "entry96 " in top_line(pilot),
        )


async def test_a_hundred_thousand_lines_cost_what_is_in_sight(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    wraps: list[int] = []
    wrap = Content.wrap
    monkeypatch.setattr(
        Content, "wrap", lambda self, width, **options: wraps.append(width) or wrap(self, width, **options)
    )
    run.says(100_000, heard=False)
    async with open_app(FinetuiApp(run.link)) as pilot:
        screen = await opened(pilot, run.link)
        view = screen.query_one(JournalView)
        await pilot.until(lambda: "message 100003" in picture(pilot.app))
        assert len(view.rows) == 100_004
        assert len(wraps) < 200  # nor are they wrapped to a width that nothing has yet
        before = len(view._wrapped)
        await pilot.until(lambda: screen.focused is view)
        await pilot.press("home", "pagedown", "pagedown")
        await pilot.until(lambda: "message 50" in picture(pilot.app))
        assert len(view._wrapped) - before < 100
        for _ in range(40):
            await pilot.press("pagedown")
        assert len(view._wrapped) < 600
