"""The Log screen: the whole journal, what is undone in it, filters, following, and the engine's output."""

import random
import threading
import time
from collections.abc import Callable
from pathlib import Path

import msgspec
import pytest
from canned import LAYERS, CannedLink, evaluated, point, prepared, running
from textual.content import Content
from textual.pilot import Pilot
from textual.widgets import Input

from engine.commands import RollBack, SetLearningRate
from engine.events import (
    AnyEvent,
    CommandAccepted,
    CommandRefused,
    Log,
    Rewound,
    RunStarted,
    StateChanged,
)
from engine.journal import encode_line
from engine.lineage import effective
from tui import run_log
from tui.app import FinetuiApp
from tui.log_lines import Undone, log_line
from tui.run_log import JournalLines, OutputTail
from tui.screens.help import HelpScreen
from tui.screens.log import LogScreen
from tui.widgets.log_view import JournalView, OutputView

SIZES = [(80, 24), (120, 40), (200, 60), (60, 15)]
PATIENCE = 20.0


def rewound(at: int, step: int = 100) -> Rewound:
    return Rewound(
        cause="rollback", file="best.ckpt", at=at, epoch=1, undone=20, learning_rate=1, layers=LAYERS, step=step
    )


class Run:
    """A run with a journal on the disk and a dashboard that hears of it."""

    def __init__(self, folder: Path, *events: AnyEvent) -> None:
        self.folder = folder
        folder.mkdir(parents=True)
        self._seq = 0
        self._began = time.time() - 1000
        self.link = CannedLink()
        self.happens(*running(*events))

    def happens(self, *events: AnyEvent, heard: bool = True, written: bool = True) -> None:
        """Write `events` into the journal, and let the dashboard hear them."""
        with (self.folder / "journal.jsonl").open("ab", buffering=0) as file:
            for event in events:
                if isinstance(event, RunStarted):
                    event = msgspec.structs.replace(event, path=str(self.folder), name=self.folder.name)
                event = msgspec.structs.replace(event, seq=self._seq, time=self._began + self._seq / 1000)
                self._seq += 1
                if written:
                    file.write(encode_line(event))
                if heard:
                    self.link.events.put(event)

    def says(self, count: int, heard: bool = True) -> None:
        """Let `count` lines happen."""
        first = self._seq
        self.happens(*(Log(level="info", message=f"message {first + n}") for n in range(count)), heard=heard)


@pytest.fixture
def run(tmp_path: Path) -> Run:
    return Run(tmp_path / "runs" / "a-run")


async def until(pilot: Pilot, condition: Callable[[], object], what: str = "") -> None:
    deadline = time.monotonic() + PATIENCE
    while not condition():
        assert time.monotonic() < deadline, f"{what}\n{picture(pilot)}"
        await pilot.pause(0.02)
    await pilot.pause()


def picture(pilot: Pilot) -> str:
    """Return what is on the screen as text."""
    width, height = pilot.app.size
    lines = pilot.app.screen._compositor.render_strips(pilot.app.size)
    return "\n".join(strip.text.ljust(width) for strip in lines[:height])


async def opened(pilot: Pilot, link: CannedLink) -> LogScreen:
    """Open the screen by its key, and wait until it has read the journal."""
    await until(pilot, lambda: not len(link.events), "the dashboard hears everything")
    await pilot.press("o")
    await until(pilot, lambda: isinstance(pilot.app.screen, LogScreen), "the screen opens")
    screen = pilot.app.screen
    assert isinstance(screen, LogScreen)
    await until(pilot, lambda: screen._path is not None and not screen._reading, "the journal is read")
    return screen


def texts(screen: LogScreen) -> list[str]:
    """Return the lines that are shown."""
    view = screen.query_one(JournalView)
    return [view.plain(row) for row in view.rows]


def title(pilot: Pilot) -> str:
    return picture(pilot).splitlines()[0]


# -- the journal --------------------------------------------------------------------------------------------


@pytest.mark.parametrize("size", SIZES)
async def test_lines_have_time_step_sign_and_text(run: Run, size: tuple[int, int]) -> None:
    refused = CommandRefused(command=SetLearningRate(value=9, by="ada@here pts/1"), reason="too high", step=1200)
    run.happens(Log(level="error", message="the disk is full", step=1250), refused)
    async with FinetuiApp(run.link).run_test(size=size) as pilot:
        await opened(pilot, run.link)
        text = picture(pilot)
        shown = time.strftime("%H:%M:%S", time.localtime(run._began))
        assert shown in text
        assert " 1,250 ✗ the disk is full" in text
        assert " 1,200 ! learning rate 9 refused: too high (by" in text
        first, second, *_, last = text.splitlines()
        assert first.startswith(" Log  a-run  ·  6 lines  ·  2 warnings and errors")
        assert "1 Journal" in second
        assert "esc Back" in last


async def test_the_whole_journal_is_there_not_only_what_the_dashboard_keeps(run: Run) -> None:
    run.says(2000)
    async with FinetuiApp(run.link).run_test() as pilot:
        screen = await opened(pilot, run.link)
        assert len(texts(screen)) == 2004
        assert texts(screen)[4:] == [f"message {n}" for n in range(4, 2004)]


async def test_what_happens_while_it_is_open_comes_at_the_end(run: Run) -> None:
    async with FinetuiApp(run.link).run_test() as pilot:
        screen = await opened(pilot, run.link)
        run.happens(Log(level="info", message="just now"))
        await until(pilot, lambda: texts(screen)[-1] == "just now")
        run.happens(Log(level="info", message="and this"), written=False)  # the disk is full
        await until(pilot, lambda: texts(screen)[-1] == "and this")
        assert len(texts(screen)) == 6
        assert "and this" in picture(pilot)


async def test_more_at_once_than_the_dashboard_keeps_is_read_from_the_journal(run: Run) -> None:
    async with FinetuiApp(run.link).run_test() as pilot:
        screen = await opened(pilot, run.link)
        run.says(1500)
        await until(pilot, lambda: len(texts(screen)) == 1504)
        run.says(5)
        await until(pilot, lambda: len(texts(screen)) == 1509)
        assert texts(screen)[4:] == [f"message {n}" for n in range(4, 1509)]


async def test_what_was_written_and_not_heard_yet_is_shown_once(run: Run) -> None:
    async with FinetuiApp(run.link).run_test() as pilot:
        run.says(3, heard=False)
        screen = await opened(pilot, run.link)
        assert len(texts(screen)) == 7
        late = [Log(level="info", message=f"message {n}", seq=n, time=run._began) for n in range(4, 7)]
        for event in late:
            run.link.events.put(event)
        run.says(1)
        await until(pilot, lambda: texts(screen)[-1] == "message 7")
        assert len(texts(screen)) == 8


async def test_what_the_dashboard_itself_says_stands_where_it_was_said(run: Run) -> None:
    run.says(1)
    run.link.events.put(Log(level="warning", message="of the dashboard", time=run._began + 0.0045))
    run.says(1)
    async with FinetuiApp(run.link).run_test() as pilot:
        screen = await opened(pilot, run.link)
        assert texts(screen)[-3:] == ["message 4", "of the dashboard", "message 5"]
        run.link.events.put(StateChanged(state="crashed", reason="killed by signal 9"))
        await until(pilot, lambda: texts(screen)[-1] == "crashed: killed by signal 9")


async def test_before_a_run_has_a_folder_its_log_is_what_was_heard() -> None:
    link = CannedLink(prepared(), StateChanged(state="ready"))
    async with FinetuiApp(link).run_test() as pilot:
        screen = await opened(pilot, link)
        assert texts(screen)[-1] == "ready"
        link.events.put(Log(level="info", message="more"))
        await until(pilot, lambda: texts(screen)[-1] == "more")
        await pilot.press("2")
        assert "once training has begun" in picture(pilot)


async def test_another_run_in_the_same_dashboard_begins_anew(run: Run, tmp_path: Path) -> None:
    run.says(50)
    async with FinetuiApp(run.link).run_test() as pilot:
        screen = await opened(pilot, run.link)
        child = Run(tmp_path / "runs" / "child")
        for event in child.link.events.drain():
            run.link.events.put(event)
        await until(pilot, lambda: screen._path == str(child.folder) and not screen._reading)
        assert len(texts(screen)) == 4
        run.link.events.put(Log(level="info", message="of the child", seq=4, time=time.time()))
        await until(pilot, lambda: texts(screen)[-1] == "of the child")
        assert "child" in title(pilot)


async def test_a_journal_that_cannot_be_read_is_said_and_the_rest_shown(run: Run) -> None:
    (run.folder / "journal.jsonl").unlink()
    async with FinetuiApp(run.link).run_test(size=(120, 40)) as pilot:
        screen = await opened(pilot, run.link)
        assert texts(screen)[-1] == "running"
        assert "not all: the journal" in title(pilot)
        run.says(1)
        await until(pilot, lambda: texts(screen)[-1] == "message 4")


async def test_reading_is_done_in_a_thread(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    threads: list[object] = []
    for kind in (JournalLines, OutputTail):
        read = kind.read

        def noted(self: object, read: Callable = read) -> object:
            threads.append(threading.current_thread())
            return read(self)

        monkeypatch.setattr(kind, "read", noted)
    (run.folder / "engine.log").write_text("hello\n")
    async with FinetuiApp(run.link).run_test() as pilot:
        await opened(pilot, run.link)
        await pilot.press("2")
        await until(pilot, lambda: "hello" in picture(pilot))
    assert len(threads) >= 2
    assert threading.main_thread() not in threads


async def test_a_run_of_another_day_has_dates(run: Run) -> None:
    async with FinetuiApp(run.link).run_test() as pilot:
        screen = await opened(pilot, run.link)
        today = time.strftime("%d %b %H:%M", time.localtime(run._began))
        if time.strftime("%d", time.localtime(run._began)) == time.strftime("%d"):
            assert today not in picture(pilot)
        run._began -= 3 * 86400
        run.says(1)
        await until(pilot, lambda: len(texts(screen)) == 5)
        assert time.strftime("%d %b %H:%M", time.localtime(run._began)) in picture(pilot)


# -- what is undone -----------------------------------------------------------------------------------------


def history() -> list[AnyEvent]:
    """Return events 4 to 9, of which 6 to 8 are undone."""
    return [
        point(90),
        evaluated(1, 0.9),
        CommandAccepted(command=SetLearningRate(value=0.5), step=110),
        Log(level="error", message="the loss is high", step=120),
        CommandAccepted(command=RollBack(checkpoint="best"), step=120),
        rewound(6),
    ]


async def test_undone_lines_say_so_and_are_struck_through(run: Run) -> None:
    run.happens(*history(), evaluated(2, 0.95))
    async with FinetuiApp(run.link).run_test(size=(120, 40)) as pilot:
        await opened(pilot, run.link)
        lines = picture(pilot).splitlines()
        assert any("✗ undone the loss is high" in line for line in lines)
        assert any("  undone learning rate 0.5" in line for line in lines)
        assert any("  epoch 1: test loss" in line for line in lines)
        assert any("  epoch 2: test loss" in line for line in lines)
        assert any("↶ rolled back at step 100 from best.ckpt, 20 steps undone" in line for line in lines)
        strips = pilot.app.screen._compositor.render_strips(pilot.app.size)
        struck = {
            segment.text.strip() for strip in strips for segment in strip if segment.style and segment.style.strike
        }
        assert "the loss is high" in struck
        assert "undone" not in struck  # the word stays readable


async def test_a_return_while_it_is_open_undoes_lines_that_are_shown(run: Run) -> None:
    *before, back = history()
    run.happens(*before)
    async with FinetuiApp(run.link).run_test() as pilot:
        screen = await opened(pilot, run.link)
        assert "the loss is high" in texts(screen)
        run.happens(back)
        await until(pilot, lambda: "undone the loss is high" in texts(screen))
        assert texts(screen)[-1].startswith("rolled back")
        assert "epoch 1: test loss 0.1000, accuracy 90.00%, the best so far" in texts(screen)


@pytest.mark.parametrize("seed", range(30))
def test_what_is_undone_is_what_leads_nowhere(seed: int) -> None:
    """Also of returns that are themselves undone, or that go back to a line that had been undone."""
    chance = random.Random(seed)
    events: list[AnyEvent] = []
    for seq in range(60):
        goes_back = seq > 3 and chance.random() < 0.15
        event = rewound(chance.randrange(1, seq + 1)) if goes_back else Log(level="info", message="x")
        events.append(msgspec.structs.replace(event, seq=seq))
    lines = [line for line in map(log_line, events) if line is not None]
    undone = Undone(lines)
    assert {event.seq for event in events if event.seq not in undone} == {event.seq for event in effective(events)}


# -- choosing -----------------------------------------------------------------------------------------------


async def test_lines_are_filtered_as_one_types_and_escape_shows_all(run: Run) -> None:
    run.says(20)
    run.happens(Log(level="info", message="Something ELSE"))
    async with FinetuiApp(run.link).run_test() as pilot:
        screen = await opened(pilot, run.link)
        await pilot.press("slash", *"mess")
        await pilot.pause()
        assert len(texts(screen)) == 20
        await pilot.press(*"age 1")
        await pilot.pause()
        assert texts(screen) == [f"message {n}" for n in range(10, 20)]
        assert "10 of 25 lines" in title(pilot)
        strips = screen._compositor.render_strips(pilot.app.size)
        marked = {s.text for strip in strips for s in strip if s.style and s.style.underline}
        assert "message 1" in marked
        await pilot.press("escape")
        await pilot.pause()
        assert len(texts(screen)) == 25
        assert isinstance(pilot.app.screen, LogScreen)
        await pilot.press("slash", *"else", "enter")
        await pilot.pause()
        assert texts(screen) == ["Something ELSE"]
        assert isinstance(screen.focused, JournalView)
        run.says(3)
        run.happens(Log(level="info", message="or else"))
        await until(pilot, lambda: texts(screen) == ["Something ELSE", "or else"])
        await pilot.press("escape")
        await pilot.pause()
        assert len(texts(screen)) == 29
        await pilot.press("escape")
        await until(pilot, lambda: not isinstance(pilot.app.screen, LogScreen))


async def test_a_filter_is_text_and_no_pattern(run: Run) -> None:
    run.happens(Log(level="info", message="a (b [c"))
    async with FinetuiApp(run.link).run_test() as pilot:
        screen = await opened(pilot, run.link)
        screen.query_one(Input).value = "(b [C"
        await pilot.pause()
        assert texts(screen) == ["a (b [c"]
        screen.query_one(Input).value = "."
        await pilot.pause()
        assert texts(screen) == []
        assert "No line fits" in picture(pilot)


async def test_only_warnings_and_errors(run: Run) -> None:
    run.happens(*(Log(level=level, message=level) for level in ("warning", "info", "error")))
    async with FinetuiApp(run.link).run_test() as pilot:
        screen = await opened(pilot, run.link)
        await pilot.press("w")
        await pilot.pause()
        assert texts(screen) == ["warning", "error"]
        run.happens(*(Log(level=level, message=f"new {level}") for level in ("info", "error")))
        await until(pilot, lambda: texts(screen) == ["warning", "error", "new error"])
        await pilot.click("#tab-level")
        await pilot.pause()
        assert len(texts(screen)) == 9


# -- following ----------------------------------------------------------------------------------------------


async def test_the_end_is_followed_until_somebody_scrolls_up(run: Run) -> None:
    run.says(100)
    async with FinetuiApp(run.link).run_test() as pilot:
        screen = await opened(pilot, run.link)
        view = screen.query_one(JournalView)
        assert "● follows" in title(pilot)
        run.says(1)
        await until(pilot, lambda: "message 104" in picture(pilot))
        await pilot.press("up", "up")
        assert "end: follow" in title(pilot)
        at = view.scroll_y
        top = picture(pilot).splitlines()[2]
        run.says(30)
        await until(pilot, lambda: len(texts(screen)) == 135)
        assert view.scroll_y == at
        assert picture(pilot).splitlines()[2] == top
        await pilot.press("end")
        assert "● follows" in title(pilot)
        run.says(1)
        await until(pilot, lambda: "message 135" in picture(pilot))
        await pilot.press("home")
        assert "ready" in picture(pilot)
        assert "end: follow" in title(pilot)


async def test_a_long_line_wraps_and_none_of_it_is_lost(run: Run) -> None:
    words = " ".join(f"word{n}" for n in range(60))
    run.happens(Log(level="info", message=words), Log(level="info", message="漢字" * 20))
    run.says(1)
    async with FinetuiApp(run.link).run_test(size=(80, 40)) as pilot:
        await opened(pilot, run.link)
        text = picture(pilot)
        found = [word for word in text.split() if word.startswith("word")]
        assert " ".join(found) == words
        assert sum(text.count(character) for character in "漢字") == 40
        await pilot.resize_terminal(200, 60)
        await until(pilot, lambda: "word0 word1" in picture(pilot))
        assert "message 6" in picture(pilot)


async def test_wrapping_anew_keeps_the_line_at_the_top(run: Run) -> None:
    run.happens(*(Log(level="info", message=f"entry{n} " + "long " * 30) for n in range(200)))
    async with FinetuiApp(run.link).run_test(size=(80, 24)) as pilot:
        screen = await opened(pilot, run.link)
        view = screen.query_one(JournalView)
        view.scroll_to(y=view._tops[100], animate=False)
        await until(pilot, lambda: "entry96 " in picture(pilot).splitlines()[2])
        await pilot.resize_terminal(120, 24)
        await until(
            pilot,
            lambda: (
                picture(pilot).splitlines()[0].rstrip().endswith("follow")
                and "entry96 " in picture(pilot).splitlines()[2]
            ),
        )


async def test_a_hundred_thousand_lines_cost_what_is_in_sight(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    wraps: list[int] = []
    wrap = Content.wrap
    monkeypatch.setattr(
        Content, "wrap", lambda self, width, **options: wraps.append(width) or wrap(self, width, **options)
    )
    run.says(100_000, heard=False)
    async with FinetuiApp(run.link).run_test() as pilot:
        screen = await opened(pilot, run.link)
        view = screen.query_one(JournalView)
        await until(pilot, lambda: "message 100003" in picture(pilot))
        assert len(view.rows) == 100_004
        assert len(wraps) < 200  # nor are they wrapped to a width that nothing has yet
        before = len(view._wrapped)
        await until(pilot, lambda: screen.focused is view)
        await pilot.press("home", "pagedown", "pagedown")
        await until(pilot, lambda: "message 50" in picture(pilot))
        assert len(view._wrapped) - before < 100
        for _ in range(40):
            await pilot.press("pagedown")
        assert len(view._wrapped) < 600


# -- what the engine printed --------------------------------------------------------------------------------


async def test_the_engines_output_is_shown_harmless_and_followed(run: Run) -> None:
    log = run.folder / "engine.log"
    log.write_bytes(b"\x1b[33mUserWarning:\x1b[0m odd\n\x1b]52;c;eA==\x07\x1b[2Jtwo\nunfinished")
    async with FinetuiApp(run.link).run_test() as pilot:
        screen = await opened(pilot, run.link)
        await pilot.press("2")
        await until(pilot, lambda: "two" in picture(pilot))
        text = picture(pilot)
        assert " UserWarning: odd" in text
        assert "\x1b" not in text
        assert "Warnings" not in text.splitlines()[-1]  # lines of a program have no level
        assert " unfinished " in text  # it may be what the engine is at
        with log.open("a") as file:
            file.write(", and on")
        await until(pilot, lambda: "unfinished, and on" in picture(pilot))
        with log.open("a") as file:
            file.write(", no more\nlater\n")
        await until(pilot, lambda: "later" in picture(pilot))
        assert list(screen.query_one(OutputView).rows)[-2:] == ["unfinished, and on, no more", "later"]
        assert len(screen.query_one(OutputView).rows) == 4
        await pilot.press("slash", *"later")
        await pilot.pause()
        assert list(screen.query_one(OutputView).rows) == ["later"]
        await pilot.press("escape", "e")
        assert "running" in picture(pilot)


async def test_only_the_newest_lines_of_the_output_are_kept(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tui.screens.log.MOST_LINES", 100)
    log = run.folder / "engine.log"
    log.write_text("".join(f"line {n} of it\n" for n in range(90)))
    async with FinetuiApp(run.link).run_test() as pilot:
        screen = await opened(pilot, run.link)
        await pilot.press("2")
        view = screen.query_one(OutputView)
        await until(pilot, lambda: len(view.rows) == 90)
        await pilot.press("up")
        top = picture(pilot).splitlines()[2]
        with log.open("a") as file:
            file.write("".join(f"line {n} of it\n" for n in range(90, 150)))
        await until(pilot, lambda: list(view.rows) == [f"line {n} of it" for n in range(50, 150)])
        assert picture(pilot).splitlines()[2] == top  # what one reads stays where it is
        assert view._tops == list(range(101))


async def test_an_engine_that_printed_nothing_or_elsewhere(run: Run) -> None:
    async with FinetuiApp(run.link).run_test(size=(120, 40)) as pilot:
        await opened(pilot, run.link)
        await pilot.press("2")
        await until(pilot, lambda: "in a terminal of its own" in " ".join(picture(pilot).split()))
        (run.folder / "engine.log").touch()
        await until(pilot, lambda: "printed nothing" in picture(pilot))
        (run.folder / "engine.log").write_text("now it did\n")
        await until(pilot, lambda: "now it did" in picture(pilot))


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


# -- ways there and back ------------------------------------------------------------------------------------


@pytest.mark.parametrize("key", ["o", "q", "escape"])
async def test_it_is_left_by_its_keys(run: Run, key: str) -> None:
    async with FinetuiApp(run.link).run_test() as pilot:
        await opened(pilot, run.link)
        await pilot.press(key)
        await until(pilot, lambda: not isinstance(pilot.app.screen, LogScreen))


async def test_a_click_on_the_lines_of_the_train_screen_opens_it(run: Run) -> None:
    async with FinetuiApp(run.link).run_test(size=(120, 40)) as pilot:
        await until(pilot, lambda: not len(run.link.events))
        await until(pilot, lambda: " o Log " in picture(pilot).splitlines()[-1])
        await pilot.click("#log")
        await until(pilot, lambda: isinstance(pilot.app.screen, LogScreen))


async def test_it_is_in_the_palette_and_explains_itself(run: Run) -> None:
    app = FinetuiApp(run.link)
    async with app.run_test(size=(120, 40)) as pilot:
        assert "Log" in [command.title for command in app.get_system_commands(app.screen)]
        await opened(pilot, run.link)
        await pilot.press("question_mark")
        assert isinstance(app.screen, HelpScreen)
        assert "struck through" in picture(pilot)
