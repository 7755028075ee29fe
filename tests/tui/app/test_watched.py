"""The dashboard on runs of others: what it shows, what it greys out, what it leaves alone."""

import os
import shutil
import time
from pathlib import Path

import pytest
from event_files import losses, record, scalar
from pilot import DashboardPilot, open_app, picture

from finetui.engine.link.no_link import NoLink
from finetui.engine.link.watch_link import WatchLink
from finetui.engine.sources.recognise import find_runs
from finetui.engine.sources.watched_runs import WatchedRuns
from finetui.tui.app.app import FinetuiApp
from finetui.tui.screens.runs.compared.curves import Curves
from finetui.tui.screens.runs.compared.screen import ComparedScreen
from finetui.tui.screens.runs.screen import RunsScreen
from finetui.tui.screens.train.plots import Plots
from finetui.tui.widgets.line_plot import LinePlot

FIXTURES = Path(__file__).parents[2] / "fixtures" / "watched"
NAME = "events.out.tfevents.1.h"


@pytest.fixture(autouse=True)
def looks_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let a link look when it is told to: the clock of these tests stands still."""
    monkeypatch.setattr(WatchLink, "run", WatchLink.look)


def watched(path: Path) -> FinetuiApp:
    """Return the dashboard on the only run in `path`."""
    runs = WatchedRuns([path])
    (found,) = runs.found()
    return FinetuiApp(WatchLink(found), watched=runs)


def shown(pilot: DashboardPilot) -> str:
    return " ".join(picture(pilot.app).split())


@pytest.mark.parametrize("size", [(80, 24), (120, 40), (200, 60)])
async def test_a_run_of_pytorch(size: tuple[int, int]) -> None:
    app = watched(FIXTURES / "pytorch")
    async with open_app(app, size=size) as pilot:
        await pilot.until(lambda: "step 39" in shown(pilot) and " old" in shown(pilot))  # the last that is told
        text = shown(pilot)
        assert "best 78.00%" in text
        assert "TensorBoard" in text
        assert "lenet" not in text and "mnist" not in text and "adamw" not in text  # finetui's defaults say nothing
        assert "0.00%" not in text
        assert "TensorBoard" in str(app.train_screen.steering._link.found.kind)


async def test_its_own_numbers_are_plots_that_can_be_chosen() -> None:
    async with open_app(watched(FIXTURES / "pytorch"), size=(120, 40)) as pilot:
        await pilot.until(lambda: "step 39" in shown(pilot))
        await pilot.settle()
        plots = pilot.app.screen.query_one(Plots)
        assert [metric.title for metric in plots.own_metrics()] == [
            "memory/gb",
            "compare/a",
            "compare/b",
            "hparam/accuracy",
        ]
        await pilot.press("1", "z", "down", "down", "down")
        assert "memory/gb" in picture(pilot.app)
        assert plots.current.content.data[0][1].max() == pytest.approx(3 + 39 / 10)


async def test_what_it_cannot_do_is_refused_with_the_reason() -> None:
    async with open_app(watched(FIXTURES / "lightning_tb"), size=(120, 40)) as pilot:
        await pilot.until(lambda: "epoch" in shown(pilot) and "best 79.69%" in shown(pilot))
        await pilot.press("space")
        await pilot.until(lambda: "watched, through its files" in shown(pilot))


async def test_it_follows_what_is_added_and_what_is_written_anew(tmp_path: Path) -> None:
    file = tmp_path / NAME
    file.write_bytes(losses(range(5)))
    app = watched(tmp_path)
    store = app.train_screen.store
    async with open_app(app, size=(120, 40)) as pilot:
        await pilot.until(lambda: "step 4" in shown(pilot))
        with file.open("ab") as more:
            more.write(losses(range(5, 9)) + record(9, scalar("val_acc", 0.5)))
        app.link.look()
        await pilot.until(lambda: "best 50.00%" in shown(pilot))
        file.write_bytes(losses(range(2), value=3.0))
        app.link.look()
        app.link.look()
        await pilot.until(lambda: app.train_screen.store.curves.train["loss"].buckets().mean.tolist() == [3.0, 3.0])
        assert app.train_screen.store is store
        file.unlink()
        app.link.look()
        await pilot.until(lambda: any("cannot be read just now" in line.text for line in store.view.log))
        file.write_bytes(losses(range(2), value=3.0))
        app.link.look()
        await pilot.until(lambda: any("can be read again" in line.text for line in store.view.log))


async def test_old_data_are_called_old(tmp_path: Path) -> None:
    file = tmp_path / NAME
    file.write_bytes(losses(range(5)))
    os.utime(file, (time.time() - 7200,) * 2)
    async with open_app(watched(tmp_path), size=(120, 40)) as pilot:
        await pilot.until(lambda: "data 2h 00m old" in shown(pilot))
        assert "stopped" in shown(pilot)


@pytest.fixture
def several(tmp_path: Path) -> Path:
    for name, value in (("first", 1.0), ("second", 2.0)):
        (tmp_path / name).mkdir()
        (tmp_path / name / NAME).write_bytes(losses(range(5), value) + losses(range(5), value, tag="mine"))
    return tmp_path


async def test_many_runs_are_listed_filtered_compared_and_opened(several: Path) -> None:
    app = FinetuiApp(NoLink(), watched=WatchedRuns([several]))
    async with open_app(app, size=(140, 40)) as pilot:
        await pilot.until(lambda: "second" in shown(pilot) and "first" in shown(pilot))
        assert "starting the engine" not in shown(pilot)
        await pilot.press("t")
        await pilot.until(lambda: "does not change their files" in shown(pilot))
        await pilot.press("space", "down", "space", "D")
        await pilot.until(lambda: app.screen.query(Curves) and "mine" in shown(pilot))
        assert "starting the engine" not in shown(pilot)
        await pilot.press("escape", "enter")
        await pilot.until(lambda: isinstance(app.screen, type(app.train_screen)) and "step 4" in shown(pilot))
        await pilot.press("escape")
        await pilot.until(lambda: isinstance(app.screen, RunsScreen))


async def compared(pilot: DashboardPilot, runs: int) -> ComparedScreen:
    await pilot.press(*["space", "down"] * (runs - 1), "space", "D")
    await pilot.until(lambda: isinstance(pilot.app.screen, ComparedScreen))
    return pilot.app.screen


async def test_a_run_that_cannot_be_read_hides_no_other(several: Path) -> None:
    """It is in the list, and there is a sentence for it; the others are drawn, also over steps."""
    (several / "third").mkdir()
    (several / "third" / NAME).write_bytes(losses(range(3), 3.0))
    (several / "third" / "hparams.yaml").write_text("lr: 0.5\n")
    (several / "second" / NAME).unlink()
    table = several / "second" / "metrics.csv"
    table.write_text("step,loss\n1,0.5\n")
    app = FinetuiApp(NoLink(), watched=WatchedRuns([several]))
    async with open_app(app, size=(120, 40)) as pilot:
        await pilot.until(lambda: "third" in shown(pilot))
        table.unlink()
        table.mkdir()
        screen = await compared(pilot, 3)
        await pilot.until(lambda: "the files of the run second cannot be read: it is not a file" in shown(pilot))
        loss = screen.query_one("#train-loss", LinePlot)
        await pilot.until(lambda: [len(x) for x, _ in loss.content.data] == [5, 3, 0])
        assert loss.content.x_label == "step"
        assert "best" not in shown(pilot) and "● first -" in shown(pilot)
        await pilot.press("2")
        await pilot.until(lambda: "lr - 0.5 -" in shown(pilot))
        table.rmdir()
        table.write_text("step,loss\n1,0.5\n2,0.5\n")
        screen._poll()
        await pilot.until(lambda: "cannot be read" not in shown(pilot))
        await pilot.press("1")
        await pilot.until(lambda: [len(x) for x, _ in loss.content.data] == [5, 3, 2])


async def test_where_no_run_can_be_read_that_is_all_that_is_said(several: Path) -> None:
    app = FinetuiApp(NoLink(), watched=WatchedRuns([several]))
    async with open_app(app, size=(120, 40)) as pilot:
        await pilot.until(lambda: "second" in shown(pilot))
        (several / "second" / NAME).unlink()
        (several / "first" / NAME).write_bytes(b"")
        await compared(pilot, 2)
        await pilot.until(lambda: "first has logged nothing to plot yet" in shown(pilot))
        assert "second has logged nothing" in shown(pilot)


async def test_the_log_is_that_of_its_files() -> None:
    async with open_app(watched(FIXTURES / "pytorch"), size=(120, 40)) as pilot:
        await pilot.until(lambda: "step 39" in shown(pilot))
        await pilot.press("o")
        await pilot.until(lambda: "1 image in the event files is not shown" in shown(pilot))


def test_nothing_is_written_beside_the_files(tmp_path: Path) -> None:
    shutil.copytree(FIXTURES, tmp_path / "runs")
    before = sorted(path.relative_to(tmp_path) for path in tmp_path.rglob("*"))
    WatchedRuns([tmp_path / "runs"]).read()
    assert len(find_runs(tmp_path / "runs")) == 3
    assert sorted(path.relative_to(tmp_path) for path in tmp_path.rglob("*")) == before


async def test_what_its_files_cannot_tell_is_said_as_such(tmp_path: Path) -> None:
    """No key or command is named that would be of no use here."""
    file = tmp_path / NAME
    file.write_bytes(losses(range(5)))
    app = watched(tmp_path)
    async with open_app(app, size=(120, 40)) as pilot:
        await pilot.press("m")
        await pilot.until(lambda: "These files have no predictions." in shown(pilot))
        assert "Press e" not in shown(pilot)
        await pilot.press("escape", "M")
        await pilot.until(lambda: "These files have no machine metrics." in shown(pilot))
        await pilot.press("escape", "c")
        await pilot.until(lambda: "The watched files contain no checkpoints." in shown(pilot))
