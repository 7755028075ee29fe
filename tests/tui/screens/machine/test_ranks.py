"""The ranks of a run as rows on the Machine screen, and as a word on every screen."""

import re
import time

import msgspec
import pytest
from canned import CannedLink, prepared
from canned_machine import sample
from canned_ranks import row, seen, slow_row
from machine_pilot import BEGINNING, SIZES, opened
from pilot import open_app, picture
from rich.cells import cell_len

from finetui.engine.protocol.events import Alert, AnyEvent, JobFound, StateChanged
from finetui.tui.app.app import FinetuiApp
from finetui.tui.screens.machine.ranks import RanksPanel, summary, table
from finetui.tui.screens.status_lines import figures_line
from finetui.tui.state.store import Store

FOUR = seen(row(0), row(1), slow_row(2), row(3))


@pytest.mark.parametrize("size", SIZES)
async def test_ranks_are_rows_and_the_slowest_is_marked(size: tuple[int, int]) -> None:
    link = CannedLink()
    async with open_app(FinetuiApp(link), size=size) as pilot:
        await opened(pilot, link, sample(0), FOUR)
        lines = picture(pilot.app).splitlines()
        heading = next(at for at, line in enumerate(lines) if "communicating" in line and "rank" in line)
        assert re.search(r"4 ranks  ·  same weights at step 1,200", lines[heading - 1])
        rows = lines[heading + 1 : heading + 5]
        assert [line.split()[0] for line in rows] == list("0123")
        assert ["slowest" in line for line in rows] == [False, False, True, False]
        assert re.search(r" 31% +66% +1%", rows[2]) and re.search(r" 4% +75% +20%", rows[3])
        assert all("1,234" in line for line in rows)
        assert "CPU" in picture(pilot.app) and "Memory" in picture(pilot.app)
        if size[0] > 80:
            assert "41.0/80 GB" in rows[0] and re.search(r"\ds ago", rows[0])
        if size[0] == 200:
            assert "cuda:3 (NVIDIA H100 8" in rows[3] and "gpu01" in rows[3]


async def test_a_run_of_one_process_has_no_such_table() -> None:
    link = CannedLink()
    async with open_app(FinetuiApp(link), size=(120, 40)) as pilot:
        screen = await opened(pilot, link, sample(0))
        assert not screen.query_one(RanksPanel).display
        assert "rank" not in picture(pilot.app)
        link.events.put(FOUR)
        await pilot.wait(1.0)
        assert screen.query_one(RanksPanel).display and "4 ranks" in picture(pilot.app)
        link.events.put(prepared())
        await pilot.wait(1.0)
        assert not screen.query_one(RanksPanel).display


async def test_many_ranks_leave_room_for_the_machine_and_can_be_scrolled() -> None:
    link = CannedLink()
    async with open_app(FinetuiApp(link), size=(80, 24)) as pilot:
        screen = await opened(pilot, link, sample(0), seen(*map(row, range(64)), world=512))
        shown = picture(pilot.app)
        assert "512 ranks on 8 nodes, showing the slowest 63 and the first" in shown and "CPU" in shown
        assert "\n  63 " not in shown
        screen.query_one("#ranks-rows").focus()
        await pilot.press("end")
        await pilot.settle()
        assert re.search(r"\n +63 ", picture(pilot.app))


async def test_rows_follow_what_the_ranks_tell() -> None:
    link = CannedLink()
    async with open_app(FinetuiApp(link), size=(120, 40)) as pilot:
        await opened(pilot, link, sample(0), FOUR)
        rows = tuple(msgspec.structs.replace(one, step=5678) for one in FOUR.rows)
        link.events.put(msgspec.structs.replace(FOUR, rows=rows, alike=5600))
        await pilot.wait(1.0)
        shown = picture(pilot.app)
        assert shown.count("5,678") == 4 and "1,234" not in shown and "same weights at step 5,600" in shown


async def test_different_weights_are_an_alert_that_names_the_tensor() -> None:
    link = CannedLink()
    async with open_app(FinetuiApp(link), size=(120, 40)) as pilot:
        alert = Alert(kind="ranks", message="the ranks have different weights at step 1,200: fc1.weight of rank 1")
        await opened(pilot, link, sample(0), seen(row(0), row(1), differs="fc1.weight"), alert)
        shown = picture(pilot.app)
        assert "weights differ: fc1.weight" in shown and "same weights" not in shown
        assert "→ the ranks have different weights at step 1,200: fc1.weight of rank 1" in shown
        assert "ranks differ" in shown


@pytest.mark.parametrize("width", range(40, 201, 8))
def test_no_line_is_wider_than_the_screen_and_columns_stand_below_their_titles(width: int) -> None:
    found = table(FOUR, width, 0.0)
    heading = found.heading().plain
    for one in FOUR.rows:
        line = found.line(one).plain
        assert cell_len(line) <= width
        if "communicating" in heading:
            end = heading.index("communicating") + len("communicating")
            assert line[end - 1] == "%"


def test_silence_grows_while_nothing_comes_and_says_nothing_in_a_pause() -> None:
    assert "1s ago" in table(FOUR, 120, 0.0).line(row(0)).plain
    assert "46s ago" in table(FOUR, 120, 45.0).line(row(0)).plain
    assert "ago" not in table(FOUR, 120, None).line(row(0)).plain


def test_the_job_tells_how_long_it_still_has() -> None:
    job = JobFound(system="SLURM", id="4711", ends=5000.0, restarts=2)
    said = summary(FOUR, job, 5000.0 - 3 * 3600 - 725, 120).plain
    assert "SLURM job 4711 ends in 3:12:05" in said and "restarted 2×" in said
    assert "ends in 0:00" in summary(FOUR, job, time.time(), 120).plain
    assert "ends" not in summary(FOUR, msgspec.structs.replace(job, ends=0.0), 0.0, 120).plain


@pytest.mark.parametrize(
    ("event", "word"),
    [
        (seen(row(0), row(1)), "2 ranks"),
        (FOUR, "rank 2 slow"),
        (seen(row(0), slow_row(1), differs="fc1.weight"), "ranks differ"),
    ],
)
def test_the_status_bar_has_a_word_for_them(event: AnyEvent, word: str) -> None:
    store = Store()
    store.fold([*BEGINNING, sample(0), event])
    assert word in figures_line(store, 120).plain
    store.fold([StateChanged(state="finished")])
    assert word not in figures_line(store, 120).plain
