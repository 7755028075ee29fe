"""The Runs screen: what it lists, and what is done with runs there."""

import re
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import msgspec
import pytest
from canned import CannedLink, running
from canned_predictions import AnsweringLink
from errors_pilot import events_of
from made_runs import held, write_run
from pilot import DashboardPilot, open_app, picture

from finetui.engine.runs.folder import RunFolder
from finetui.engine.runs.notes import read_notes, tagged
from finetui.engine.runs.runs_reader import reader_of
from finetui.tui.app import app as app_module
from finetui.tui.app.app import FinetuiApp
from finetui.tui.screens.errors.screen import ErrorsScreen
from finetui.tui.screens.runs.compared.curves import Curves, RunsPlot
from finetui.tui.screens.runs.compared.screen import ComparedScreen
from finetui.tui.screens.runs.screen import RunsScreen
from finetui.tui.screens.train.screen import TrainScreen


@pytest.fixture
def runs(tmp_path: Path) -> Path:
    """Four runs: one is a finetune of another, and one beats the others."""
    write_run(tmp_path, "base", lr=0.1, accuracy=0.9, at=1.70e9, seed=1)
    write_run(tmp_path, "child", "base", lr=0.01, accuracy=0.95, at=1.71e9, seed=2)
    write_run(tmp_path, "other", lr=0.001, accuracy=0.8, at=1.72e9, seed=3)
    write_run(tmp_path, "bare", lr=0.02, accuracy=0.7, at=1.73e9)
    return tmp_path


@asynccontextmanager
async def opened(runs: Path, size: tuple[int, int] = (120, 40)) -> AsyncIterator[DashboardPilot]:
    """Open the Runs screen above a run that is not among them."""
    link = CannedLink(*running())
    link.events.put(msgspec.structs.replace(running()[2], path=str(runs / "a-run")))
    async with open_app(FinetuiApp(link), size=size) as pilot:
        await pilot.settle()
        await pilot.press("r")
        await pilot.until(lambda: "name  " in picture(pilot.app))
        yield pilot


def names(pilot: DashboardPilot) -> list[str]:
    return [run.name for run in pilot.app.screen.run_list._table.runs]


def flat(pilot: DashboardPilot) -> str:
    """Return what is on the screen with all of its lines in one."""
    return " ".join(picture(pilot.app).split())


async def test_where_there_are_none_it_says_so_until_there_is_one(tmp_path: Path) -> None:
    link = CannedLink(*running())
    link.events.put(msgspec.structs.replace(running()[2], path=str(tmp_path / "a-run")))
    async with open_app(FinetuiApp(link), size=(80, 24)) as pilot:
        await pilot.settle()
        await pilot.press("r")
        await pilot.settle()
        assert "No runs yet in" in picture(pilot.app) and "Runs  0" in picture(pilot.app)
        write_run(tmp_path, "first")
        await pilot.until(lambda: "first" in picture(pilot.app))
        assert "No runs yet in" not in picture(pilot.app)
        await pilot.press("t")  # the list has the keys
        assert "Tags" in picture(pilot.app)


async def test_runs_are_a_tree_and_are_looked_at_one_level_at_a_time(runs: Path) -> None:
    async with opened(runs) as pilot:
        screen = pilot.app.screen
        assert names(pilot) == ["bare", "other", "base", "child"]
        shown = picture(pilot.app)
        assert "└ child" in shown and "★ └ child" in shown
        await pilot.press("end", "enter")
        await pilot.until(lambda: "from base" in picture(pilot.app))
        assert isinstance(pilot.app.screen, TrainScreen) and pilot.app.screen is not pilot.app.train_screen
        await pilot.press("r")  # from there it is the way back, not a list above a list
        assert pilot.app.screen is screen
        assert screen.run_list.run.name == "child"
        await pilot.press("escape")
        assert pilot.app.screen is pilot.app.train_screen


async def test_filter_order_and_marks_are_cleared_one_by_one(runs: Path) -> None:
    async with opened(runs) as pilot:
        screen = pilot.app.screen
        await pilot.press("space", "/", *"lr>0.005", "enter")
        assert names(pilot) == ["bare", "base", "child"]
        assert "3 of 4" in picture(pilot.app)
        await pilot.press("/", *" best>high")
        assert "best is compared with a number such as 0.98 or 98%, not with 'high'" in flat(pilot)
        assert names(pilot) == ["bare", "base", "child"]  # what was listed stays
        await pilot.press(*["backspace"] * 10, *" rum", "enter")
        assert "No matching runs" in picture(pilot.app)
        await pilot.press("escape")
        assert names(pilot) == ["bare", "other", "base", "child"]
        orders = []
        for _ in screen.run_list.columns:
            await pilot.press("O")
            orders.append(screen._query.order)
            if screen._query.order == "best":
                assert names(pilot) == ["child", "base", "other", "bare"]
                assert "by best" in picture(pilot.app) and "best on↓" in picture(pilot.app)
                await pilot.press("R")
                assert names(pilot) == ["bare", "other", "base", "child"]
        assert {"best", "name", "lr", "started"} <= set(orders)
        await pilot.press("escape")
        assert not screen._marked and pilot.app.screen is screen
        await pilot.press("escape")
        assert pilot.app.screen is pilot.app.train_screen


async def test_tags_notes_and_names_are_written_and_seen(runs: Path) -> None:
    tagged(RunFolder(runs / "bare"), ["old"])
    async with opened(runs, (200, 60)) as pilot:
        await pilot.press("t")
        await pilot.press("end", *" keep", "enter")
        await pilot.until(lambda: "old keep" in picture(pilot.app))
        await pilot.press("A", *"the first of all", "enter")
        await pilot.until(lambda: "the first of all" in picture(pilot.app))
        assert read_notes(RunFolder(runs / "bare")).tags == ("old", "keep")
        await pilot.press("space", "down", "space", "t")  # of several runs: what they have in common
        await pilot.press(*"both", "enter")
        await pilot.settle()
        assert read_notes(RunFolder(runs / "bare")).tags == ("old", "keep", "both")
        assert read_notes(RunFolder(runs / "other")).tags == ("both",)
        await pilot.press("escape", "home", "f2", *"x/y", "enter")
        assert "the new name" in picture(pilot.app)  # what is wrong is said, and the form stays
        await pilot.press("home", *["delete"] * 10, *"renamed", "enter")
        await pilot.until(lambda: "renamed" in names(pilot))
        assert (runs / "renamed" / "journal.jsonl").is_file() and not (runs / "bare").exists()


async def test_deleting_asks_says_what_is_lost_and_refuses_a_live_run(runs: Path) -> None:
    with held(runs / "other"):
        async with opened(runs, (80, 24)) as pilot:
            assert names(pilot)[0] == "other"  # live ones first
            assert "1 live" in picture(pilot.app)
            await pilot.press("delete")
            await pilot.until(lambda: "other is live" in picture(pilot.app))
            assert isinstance(pilot.app.screen, RunsScreen)
            await pilot.press("down", "down", "delete")
            await pilot.until(lambda: "Delete base" in picture(pilot.app))
            shown = flat(pilot)
            assert "undone." in shown  # no line is cut
            assert "90.00%" in shown and "child started from base" in shown and "KB" in shown
            await pilot.press("escape")
            assert (runs / "base").exists()
            await pilot.press("delete")
            await pilot.until(lambda: "Delete base" in picture(pilot.app))
            await pilot.press("enter")
            await pilot.until(lambda: "base" not in names(pilot))
            assert not (runs / "base").exists() and (runs / "child").exists()


async def test_only_what_changed_is_read_again_while_the_list_is_open(runs: Path) -> None:
    async with opened(runs) as pilot:
        reader = reader_of(runs)
        read = reader.journals_read
        await pilot.wait(10)
        assert reader.journals_read == read
        write_run(runs, "new", at=1.74e9)
        await pilot.until(lambda: "new" in names(pilot))
        assert reader.journals_read == read + 1


async def test_several_are_compared_and_the_images_two_differ_on_are_opened(
    runs: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with opened(runs) as pilot:
        listed = pilot.app.screen
        await pilot.press("D")
        await pilot.until(lambda: "mark them with space" in picture(pilot.app))
        await pilot.press("space", "down", "space", "down", "space", "D")
        await pilot.until(lambda: "95.0" not in picture(pilot.app) and "Test acc" in picture(pilot.app))
        screen = pilot.app.screen
        assert isinstance(screen, ComparedScreen)
        for name in ("bare", "other", "base"):
            assert name in picture(pilot.app)
        await pilot.press("z", "down")
        assert [plot.id for plot in screen.query(RunsPlot) if plot.display] == ["loss"]
        await pilot.press("2")
        assert "training.lr" in picture(pilot.app) and "0.001" in picture(pilot.app)
        assert "training.seed" not in picture(pilot.app)
        await pilot.press("3")
        assert "bare has no predictions yet" in picture(pilot.app) and "Holm p" in picture(pilot.app)
        assert screen.copyable().startswith("finetui compare ")
        monkeypatch.setattr(app_module, "link_to_run", lambda folder, reading: AnsweringLink(*events_of(folder.path)))
        await pilot.press("4", "enter")
        await pilot.until(lambda: isinstance(pilot.app.screen, ErrorsScreen))
        await pilot.settle()
        assert "base (best)" in picture(pilot.app) and pilot.app.screen._listing.selection.change == "broken"
        found = pilot.app.screen._listing
        assert (found.predictions.wrong[found.rows]).all()
        while pilot.app.screen is not screen:
            await pilot.press("escape")
            assert pilot.app.screen in (screen, *pilot.app.screen_stack)
        await pilot.press("1", "escape", "escape")
        assert pilot.app.screen is listed


async def test_the_plots_of_several_runs_have_cursor_window_and_axes_in_common(runs: Path) -> None:
    async with opened(runs) as pilot:
        await pilot.press("space", "down", "space", "down", "space", "D")
        await pilot.until(lambda: "● bare 70.00%   ◆ other 80.00%   ■ base 90.00%" in picture(pilot.app))
        screen = pilot.app.screen
        curves = screen.query_one(Curves)
        drawn = [plot for plot in screen.query(RunsPlot) if plot.display]
        assert len(drawn) > 1 and curves.has_focus
        await pilot.press("left")
        assert re.search(r"Test accuracy at epoch 0\.9\d:   ● bare 70.00%   ◆ other 80.00%", picture(pilot.app))
        assert len({plot.content.cursor for plot in drawn}) == 1
        await pilot.press("down", "X")
        assert "Test loss at step" in picture(pilot.app) and curves.current.id == "loss"
        await pilot.press("]")
        assert curves.view.window is not None
        await pilot.click(drawn[2], offset=(20, 5))
        assert curves.current is drawn[2] and "Train loss at step" in picture(pilot.app)
        await pilot.press("Y", ")")
        assert curves.current.log_y and "smoothed 0.97" in picture(pilot.app)
        await pilot.press("escape")
        assert "Best:   ● bare" in picture(pilot.app)  # the cursor first, then the window
        await pilot.press("escape")
        assert curves.view.window is None
        await pilot.press("z")
        assert [plot for plot in screen.query(RunsPlot) if plot.display] == [drawn[2]]
        await pilot.click(drawn[2], offset=(curves.current.render_line(0).text.index("LR"), 0))
        assert curves.current.id == "train-lr"
        await pilot.press("escape", "escape")
        assert isinstance(pilot.app.screen, RunsScreen)
