"""The Log screen: what the engine and its libraries printed."""

from pathlib import Path

import pytest
from log_pilot import Run, opened, top_line
from pilot import open_app, picture

from finetui.tui.app.app import FinetuiApp
from finetui.tui.screens.log.log_view import OutputView
from finetui.tui.state import run_log
from finetui.tui.state.run_log import OutputTail


async def test_the_engines_output_is_shown_harmless_and_followed(run: Run) -> None:
    log = run.folder / "engine.log"
    log.write_bytes(b"\x1b[33mUserWarning:\x1b[0m odd\n\x1b]52;c;eA==\x07\x1b[2Jtwo\nunfinished")
    async with open_app(FinetuiApp(run.link)) as pilot:
        screen = await opened(pilot, run.link)
        await pilot.press("2")
        await pilot.until(lambda: "two" in picture(pilot.app))
        text = picture(pilot.app)
        assert " UserWarning: odd" in text
        assert "\x1b" not in text
        assert "Warnings" not in text.splitlines()[-1]  # lines of a program have no level
        assert " unfinished " in text  # it may be what the engine is at
        with log.open("a") as file:
            file.write(", and on")
        await pilot.until(lambda: "unfinished, and on" in picture(pilot.app))
        with log.open("a") as file:
            file.write(", no more\nlater\n")
        await pilot.until(lambda: "later" in picture(pilot.app))
        assert list(screen.query_one(OutputView).rows)[-2:] == ["unfinished, and on, no more", "later"]
        assert len(screen.query_one(OutputView).rows) == 4
        await pilot.press("slash", *"later")
        assert list(screen.query_one(OutputView).rows) == ["later"]
        await pilot.press("escape", "1")
        assert "running" in picture(pilot.app)


async def test_only_the_newest_lines_of_the_output_are_kept(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("finetui.tui.screens.log.screen.MOST_LINES", 100)
    log = run.folder / "engine.log"
    log.write_text("".join(f"line {n} of it\n" for n in range(90)))
    async with open_app(FinetuiApp(run.link)) as pilot:
        screen = await opened(pilot, run.link)
        await pilot.press("2")
        view = screen.query_one(OutputView)
        await pilot.until(lambda: len(view.rows) == 90)
        await pilot.press("up")
        top = top_line(pilot)
        with log.open("a") as file:
            file.write("".join(f"line {n} of it\n" for n in range(90, 150)))
        await pilot.until(lambda: list(view.rows) == [f"line {n} of it" for n in range(50, 150)])
        assert top_line(pilot) == top  # what one reads stays where it is
        assert view._tops == list(range(101))


async def test_an_engine_that_printed_nothing_or_elsewhere(run: Run) -> None:
    async with open_app(FinetuiApp(run.link), size=(120, 40)) as pilot:
        await opened(pilot, run.link)
        await pilot.press("2")
        await pilot.until(lambda: "printed to its own terminal" in " ".join(picture(pilot.app).split()))
        (run.folder / "engine.log").touch()
        await pilot.until(lambda: "printed nothing" in picture(pilot.app))
        (run.folder / "engine.log").write_text("now it did\n")
        await pilot.until(lambda: "now it did" in picture(pilot.app))


def _write(path: Path, data: bytes) -> None:
    with path.open("ab") as file:
        file.write(data)


def test_output_comes_in_pieces(tmp_path: Path) -> None:
    path = tmp_path / "engine.log"
    tail = OutputTail(path)
    expected: list[tuple[bytes, list[str], str]] = [
        (b"one\ntw", ["one"], "tw"),
        (b"o\r", [], "two"),
        (b"\nthree\r\n", ["two", "three"], ""),
        (b"fetch 1%\rfetch 2%\r", ["fetch 1%"], "fetch 2%"),
        (b"fetch 3%", ["fetch 2%"], "fetch 3%"),
        (b"", [], "fetch 3%"),
        (b"\n\n", ["fetch 3%", ""], ""),
    ]
    for data, lines, unfinished in expected:
        _write(path, data)
        assert (tail.read(), tail.unfinished) == (lines, unfinished)


def test_an_output_that_was_replaced_begins_anew(tmp_path: Path) -> None:
    path = tmp_path / "engine.log"
    path.write_text("the first one, and long\n")
    tail = OutputTail(path)
    assert tail.read() == ["the first one, and long"]
    path.write_text("short\n")
    assert tail.read() == ["short"]
    (tmp_path / "new").write_text("another file, and longer\n")
    (tmp_path / "new").rename(path)
    assert tail.read() == ["another file, and longer"]


def test_a_line_without_end_takes_no_memory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(run_log, "_MOST_BYTES", 1000)
    path = tmp_path / "engine.log"
    tail = OutputTail(path)
    for _ in range(20):
        _write(path, b"x" * 900)
        assert tail.read() == []
    assert len(tail._rest) <= 1000
    _write(path, b"\nend\n")
    assert [line[-5:] for line in tail.read()] == ["xxxxx", "end"]
