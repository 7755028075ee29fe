"""The Log screen: the whole journal, what is undone in it, and ways there and back."""

import random
import threading
import time
from collections.abc import Callable
from pathlib import Path

import msgspec
import pytest
from canned import CannedLink, evaluated, point, prepared
from log_pilot import SIZES, Run, opened, rewound, texts, title
from pilot import open_app, picture

from finetui.engine.protocol.commands import RollBack, SetLearningRate
from finetui.engine.protocol.events import AnyEvent, CommandAccepted, CommandRefused, Log, StateChanged
from finetui.engine.runs.lineage import effective
from finetui.tui.app.app import FinetuiApp
from finetui.tui.screens.help import HelpScreen
from finetui.tui.screens.log.screen import LogScreen
from finetui.tui.state.log_lines import Undone, log_line
from finetui.tui.state.run_log import JournalLines, OutputTail

# -- the journal --------------------------------------------------------------------------------------------


@pytest.mark.parametrize("size", SIZES)
async def test_lines_have_time_step_sign_and_text(run: Run, size: tuple[int, int]) -> None:
    refused = CommandRefused(command=SetLearningRate(value=9, by="ada@here pts/1"), reason="too high", step=1200)
    run.happens(Log(level="error", message="the disk is full", step=1250), refused)
    async with open_app(FinetuiApp(run.link), size=size) as pilot:
        await opened(pilot, run.link)
        text = picture(pilot.app)
        shown = time.strftime("%H:%M:%S", time.localtime(run._began))
        assert shown in text
        assert " 1,250 ✗ the disk is full" in text
        assert " 1,200 ! learning rate 9 refused: too high (by" in text
        state, best, first, second, *_, last = text.splitlines()
        assert "running" in state
        assert " lr 0.001 " in best
        assert first.startswith(" Log  a-run  ·  6 lines  ·  2 warnings and errors")
        assert "1 Journal" in second
        assert "esc Back" in last


async def test_the_whole_journal_is_there_not_only_what_the_dashboard_keeps(run: Run) -> None:
    run.says(2000)
    async with open_app(FinetuiApp(run.link)) as pilot:
        screen = await opened(pilot, run.link)
        assert len(texts(screen)) == 2004
        assert texts(screen)[4:] == [f"message {n}" for n in range(4, 2004)]


async def test_what_happens_while_it_is_open_comes_at_the_end(run: Run) -> None:
    async with open_app(FinetuiApp(run.link)) as pilot:
        screen = await opened(pilot, run.link)
        run.happens(Log(level="info", message="just now"))
        await pilot.until(lambda: texts(screen)[-1] == "just now")
        run.happens(Log(level="info", message="and this"), written=False)  # the disk is full
        await pilot.until(lambda: texts(screen)[-1] == "and this")
        assert len(texts(screen)) == 6
        assert "and this" in picture(pilot.app)


async def test_more_at_once_than_the_dashboard_keeps_is_read_from_the_journal(run: Run) -> None:
    async with open_app(FinetuiApp(run.link)) as pilot:
        screen = await opened(pilot, run.link)
        run.says(1500)
        await pilot.until(lambda: len(texts(screen)) == 1504)
        run.says(5)
        await pilot.until(lambda: len(texts(screen)) == 1509)
        assert texts(screen)[4:] == [f"message {n}" for n in range(4, 1509)]


async def test_what_was_written_and_not_heard_yet_is_shown_once(run: Run) -> None:
    async with open_app(FinetuiApp(run.link)) as pilot:
        run.says(3, heard=False)
        screen = await opened(pilot, run.link)
        assert len(texts(screen)) == 7
        late = [Log(level="info", message=f"message {n}", seq=n, time=run._began) for n in range(4, 7)]
        for event in late:
            run.link.events.put(event)
        run.says(1)
        await pilot.until(lambda: texts(screen)[-1] == "message 7")
        assert len(texts(screen)) == 8


async def test_what_the_dashboard_itself_says_stands_where_it_was_said(run: Run) -> None:
    run.says(1)
    run.link.events.put(Log(level="warning", message="of the dashboard", time=run._began + 0.0045))
    run.says(1)
    async with open_app(FinetuiApp(run.link)) as pilot:
        screen = await opened(pilot, run.link)
        assert texts(screen)[-3:] == ["message 4", "of the dashboard", "message 5"]
        run.link.events.put(StateChanged(state="crashed", reason="killed by signal 9"))
        await pilot.until(lambda: texts(screen)[-1] == "crashed: killed by signal 9")


async def test_before_a_run_has_a_folder_its_log_is_what_was_heard() -> None:
    link = CannedLink(prepared(), StateChanged(state="ready"))
    async with open_app(FinetuiApp(link)) as pilot:
        screen = await opened(pilot, link)
        assert texts(screen)[-1] == "ready"
        link.events.put(Log(level="info", message="more"))
        await pilot.until(lambda: texts(screen)[-1] == "more")
        await pilot.press("2")
        assert "once training starts" in picture(pilot.app)


async def test_another_run_in_the_same_dashboard_begins_anew(run: Run, tmp_path: Path) -> None:
    run.says(50)
    async with open_app(FinetuiApp(run.link)) as pilot:
        screen = await opened(pilot, run.link)
        child = Run(tmp_path / "runs" / "child")
        for event in child.link.events.drain():
            run.link.events.put(event)
        await pilot.until(lambda: screen._path == str(child.folder) and not screen._reading)
        assert len(texts(screen)) == 4
        run.link.events.put(Log(level="info", message="of the child", seq=4, time=time.time()))
        await pilot.until(lambda: texts(screen)[-1] == "of the child")
        assert "child" in title(pilot)


async def test_a_journal_that_cannot_be_read_is_said_and_the_rest_shown(run: Run) -> None:
    (run.folder / "journal.jsonl").unlink()
    async with open_app(FinetuiApp(run.link), size=(120, 40)) as pilot:
        screen = await opened(pilot, run.link)
        assert texts(screen)[-1] == "running from step 0"
        assert "incomplete: the journal" in title(pilot)
        run.says(1)
        await pilot.until(lambda: texts(screen)[-1] == "message 4")


async def test_reading_is_done_in_a_thread(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    threads: list[object] = []
    for kind in (JournalLines, OutputTail):
        read = kind.read

        def noted(self: object, read: Callable = read) -> object:
            threads.append(threading.current_thread())
            return read(self)

        monkeypatch.setattr(kind, "read", noted)
    (run.folder / "engine.log").write_text("hello\n")
    async with open_app(FinetuiApp(run.link)) as pilot:
        await opened(pilot, run.link)
        await pilot.press("2")
        await pilot.until(lambda: "hello" in picture(pilot.app))
    assert len(threads) >= 2
    assert threading.main_thread() not in threads


async def test_a_run_of_another_day_has_dates(run: Run) -> None:
    async with open_app(FinetuiApp(run.link)) as pilot:
        screen = await opened(pilot, run.link)
        today = time.strftime("%d %b %H:%M", time.localtime(run._began))
        if time.strftime("%d", time.localtime(run._began)) == time.strftime("%d"):
            assert today not in picture(pilot.app)
        run._began -= 3 * 86400
        run.says(1)
        await pilot.until(lambda: len(texts(screen)) == 5)
        assert time.strftime("%d %b %H:%M", time.localtime(run._began)) in picture(pilot.app)


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
    async with open_app(FinetuiApp(run.link), size=(120, 40)) as pilot:
        await opened(pilot, run.link)
        lines = picture(pilot.app).splitlines()
        assert any("✗ undone the loss is high" in line for line in lines)
        assert any("  undone learning rate 0.5" in line for line in lines)
        assert any("  epoch 1: test loss" in line for line in lines)
        assert any("  epoch 2: test loss" in line for line in lines)
        assert any('↶ rolled back to "best" (step 100); 20 steps undone' in line for line in lines)
        strips = pilot.app.screen._compositor.render_strips(pilot.app.size)
        struck = {
            segment.text.strip() for strip in strips for segment in strip if segment.style and segment.style.strike
        }
        assert "the loss is high" in struck
        assert "undone" not in struck  # the word stays readable


async def test_a_return_while_it_is_open_undoes_lines_that_are_shown(run: Run) -> None:
    *before, back = history()
    run.happens(*before)
    async with open_app(FinetuiApp(run.link)) as pilot:
        screen = await opened(pilot, run.link)
        assert "the loss is high" in texts(screen)
        run.happens(back)
        await pilot.until(lambda: "undone the loss is high" in texts(screen))
        assert texts(screen)[-1].startswith("rolled back")
        assert "epoch 1: test loss 0.1000, accuracy 90.00%, the best so far (chosen on test)" in texts(screen)


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
    assert {line.seq for line in lines if line not in undone} == {event.seq for event in effective(events)}


# -- ways there and back ------------------------------------------------------------------------------------


@pytest.mark.parametrize("key", ["o", "q", "escape"])
async def test_it_is_left_by_its_keys(run: Run, key: str) -> None:
    async with open_app(FinetuiApp(run.link)) as pilot:
        await opened(pilot, run.link)
        await pilot.press(key)
        await pilot.until(lambda: not isinstance(pilot.app.screen, LogScreen))


async def test_a_click_on_the_lines_of_the_train_screen_opens_it(run: Run) -> None:
    async with open_app(FinetuiApp(run.link), size=(120, 40)) as pilot:
        await pilot.until(lambda: not len(run.link.events))
        await pilot.until(lambda: " o Log " in picture(pilot.app).splitlines()[-1])
        await pilot.click("#log")
        await pilot.until(lambda: isinstance(pilot.app.screen, LogScreen))


async def test_it_is_in_the_palette_and_explains_itself(run: Run) -> None:
    app = FinetuiApp(run.link)
    async with open_app(app, size=(120, 40)) as pilot:
        assert "Log" in [command.title for command in app.get_system_commands(app.screen)]
        await opened(pilot, run.link)
        await pilot.press("question_mark")
        assert isinstance(app.screen, HelpScreen)
        assert "struck through" in picture(pilot.app)
