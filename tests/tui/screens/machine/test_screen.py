"""The Machine screen, and the machine's line on Train."""

import re
from typing import Any

import msgspec
import pytest
from canned import CannedLink, point, running
from canned_machine import BEGAN, GB, gpu, sample
from machine_pilot import BEGINNING, SIZES, opened
from pilot import open_app, picture
from textual._compositor import ChopsUpdate, Compositor
from textual.widget import Widget

from finetui.engine.protocol.events import Alert, StateChanged, TimeShares
from finetui.engine.protocol.machine import Gpu, GpuProcess
from finetui.tui.app.app import FinetuiApp
from finetui.tui.screens.help import HelpScreen
from finetui.tui.screens.machine import text
from finetui.tui.screens.machine.frames import Frame, Frames
from finetui.tui.screens.machine.screen import MachineScreen
from finetui.tui.screens.status_lines import machine_parts
from finetui.tui.screens.train.screen import TrainScreen
from finetui.tui.state.store import Store
from finetui.tui.widgets.fitting import fitting

SHARES = TimeShares(waiting=0.31, copying=0.02, computing=0.55, evaluating=0.06, saving=0.01, seconds=60.0)


def has_graph(frame: Frame) -> bool:
    return any(re.search("[⠁-⣿]", strip.text) for strip in frame._drawn)


@pytest.mark.parametrize("size", SIZES)
async def test_a_gpu_with_all_its_figures(size: tuple[int, int]) -> None:
    link = CannedLink()
    others = (GpuProcess(pid=999, memory=3 * GB, name="jupyter-lab", user="bert"),)
    shared = gpu(processes=(*gpu().processes, *others), process_count=2)
    async with open_app(FinetuiApp(link), size=size) as pilot:
        screen = await opened(pilot, link, *(sample(at, (shared,)) for at in range(0, 60, 2)))
        shown = picture(pilot.app)
        assert "Machine  node07  ·  a-run" in shown
        for title in ("─ CPU ─", "─ Memory ─", "─ Disk ─", "─ GPU 0  H100 80GB HBM3 ─"):
            assert title in shown
        assert "82%  this run 31% with 8 workers" in shown
        assert "16%  1.2/7.6 GB  this run 0.9 GB" in shown
        assert "65.0 GB free" in shown and "46.0 MB/s" in shown
        assert "97%  11.0/80 GB  71 °C" in shown and "1 other" in shown
        assert "11.0 GB  this run  python3.11 4711" in shown
        assert " 3.0 GB  bert  jupyter-lab 999" in shown
        assert all(map(has_graph, screen.query(Frame)))
        assert "were not measured" in shown
        if size[0] > 80:
            assert "310/700 W" in shown and "1.75 GHz" in shown and "64 cores" in shown


@pytest.mark.parametrize("size", SIZES)
async def test_eight_gpus_have_a_frame_each(size: tuple[int, int]) -> None:
    link = CannedLink()
    async with open_app(FinetuiApp(link), size=size) as pilot:
        screen = await opened(pilot, link, *(sample(at, tuple(map(gpu, range(8)))) for at in range(0, 60, 2)))
        shown = picture(pilot.app)
        for index in range(8):
            assert f"GPU {index}  H100" in shown
            assert f"97%  {11 + index}.0/80 GB  71 °C" in shown
        frames = screen.query_one(Frames)
        assert not frames.show_vertical_scrollbar
        assert all(map(has_graph, screen.query(Frame))) == (size != (80, 24)), "80x24 has room for figures only"


async def test_more_gpus_than_room_can_be_scrolled_to() -> None:
    link = CannedLink()
    async with open_app(FinetuiApp(link), size=(80, 24)) as pilot:
        screen = await opened(pilot, link, sample(0, tuple(map(gpu, range(16)))))
        assert "GPU 15" not in picture(pilot.app)
        screen.query_one(Frames).focus()
        await pilot.press("end")
        await pilot.settle()
        assert "GPU 15" in picture(pilot.app)


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize(
    "reason", ["no NVIDIA driver on this machine", "nvidia-ml-py is not installed: pip install nvidia-ml-py"]
)
async def test_without_gpu_it_says_why(size: tuple[int, int], reason: str) -> None:
    link = CannedLink()
    async with open_app(FinetuiApp(link), size=size) as pilot:
        await opened(pilot, link, sample(0, no_gpu=reason))
        shown = picture(pilot.app)
        assert f"GPU: {reason}." in shown and "─ GPU ─" not in shown


async def test_what_is_not_known_is_left_out() -> None:
    link = CannedLink()
    nothing = dict.fromkeys(("cpu", "engine_cpu", "load", "memory_used", "memory_total", "engine_memory"))
    disk = dict.fromkeys(("disk_free", "disk_total", "disk_read", "disk_written"))
    async with open_app(FinetuiApp(link), size=(120, 40)) as pilot:
        screen = await opened(pilot, link, sample(0, (Gpu(index=0),), **nothing, **disk))
        shown = picture(pilot.app)
        assert "None" not in shown and "nan" not in shown
        assert "known once the run has a folder" in shown
        assert not any(map(has_graph, screen.query(Frame)))


@pytest.mark.parametrize("size", SIZES)
async def test_where_the_time_goes_and_what_to_do_about_it(size: tuple[int, int]) -> None:
    link = CannedLink()
    advice = "training waits for images 31% of the time; more workers would help"
    # A kind that is about the machine: those of the training have no place here.
    alert = msgspec.structs.replace(Alert(kind="unstable", message=advice), kind="speed")  # type: ignore[arg-type]
    async with open_app(FinetuiApp(link), size=size) as pilot:
        screen = await opened(pilot, link, sample(0), point(1, time=BEGAN, time_shares=SHARES))
        shown = picture(pilot.app)
        words = ["waiting for images 31%", "copying 2%", "computing 55%", "evaluating 6%", "saving 1%", "other 5%"]
        for word in words if size[0] > 80 else ("waiting 31%", "copying 2%", "computing 55%", "evaluating 6%"):
            assert word in shown
        assert "→" not in shown
        bar = next(line for line in shown.splitlines() if "███" in line)
        widths = [len(piece) for piece in bar.split()]
        assert len(widths) == 6, "a gap between any two"
        assert widths[2] == max(widths) and sum(widths) + 5 == size[0] - 2
        link.events.put(alert)
        link.events.put(sample(2))
        await pilot.settle()
        assert f"→ {advice}" in picture(pilot.app)
        link.events.put(Alert(kind="overfit", message="of the training"))
        link.events.put(sample(4))
        await pilot.settle()
        assert "→" not in picture(pilot.app)
        assert screen.is_current


@pytest.mark.parametrize("size", SIZES)
async def test_processors_that_other_programs_keep_busy_are_told_of(size: tuple[int, int]) -> None:
    link = CannedLink()
    async with open_app(FinetuiApp(link), size=size) as pilot:
        await opened(pilot, link, *(sample(at, cpu=0.99, engine_cpu=0.12) for at in range(0, 10, 2)))
        shown = " ".join(picture(pilot.app).split())
        assert "→ other programs use 87% of the CPU: stop them, or set OMP_NUM_THREADS=1" in shown
        link.events.put(StateChanged(state="paused"))
        link.events.put(sample(10, cpu=0.99, engine_cpu=0.0))
        await pilot.settle()
        assert "other programs" not in picture(pilot.app)


@pytest.mark.parametrize(
    "cpu,own,told", [(0.99, 0.9, False), (0.7, 0.1, False), (0.95, None, False), (0.95, 0.4, True)]
)
def test_other_programs_are_in_the_way_where_no_processor_is_free(cpu: float, own: float | None, told: bool) -> None:
    store = Store()
    store.fold([*running(), *(sample(at, cpu=cpu, engine_cpu=own) for at in range(0, 8, 2))])
    assert not text.busy_elsewhere(store), "a moment does not tell"
    store.fold([sample(at, cpu=cpu, engine_cpu=own) for at in range(8, 12, 2)])
    assert bool(text.busy_elsewhere(store)) == told


@pytest.mark.parametrize("width", [1, 7, 40, 78])
def test_a_bar_has_its_width_whatever_the_shares(width: int) -> None:
    for shares in (SHARES, TimeShares(), TimeShares(waiting=1.0), TimeShares(waiting=0.8, computing=0.8)):
        pieces = text.time_bar(shares, width).plain.split()
        assert abs(sum(map(len, pieces)) + len(pieces) - 1 - width) <= 2 * len(pieces)
    assert len(text.time_bar(TimeShares(waiting=1.0), 40).plain) == 40


async def test_the_whole_run_or_ten_minutes() -> None:
    link = CannedLink()
    past = [sample(float(at), cpu=1.0 if at < 3000 else 0.0) for at in range(0, 7200, 10)]
    async with open_app(FinetuiApp(link), size=(120, 40)) as pilot:
        screen = await opened(pilot, link, *past)
        cpu = screen.query_one(Frames).frames["cpu"]
        assert "the last 10 minutes" in picture(pilot.app)
        assert "⣿" not in "".join(strip.text for strip in cpu._drawn)
        await pilot.press("H")
        await pilot.settle()
        assert "the whole run" in picture(pilot.app)
        assert "⣿" in "".join(strip.text for strip in cpu._drawn)


async def test_the_history_of_an_ended_run_fills_its_frames_and_says_how_long_it_is() -> None:
    link = CannedLink()
    past = [sample(float(at), cpu=1.0, disk_read=3.0 * 2**20, disk_written=0.0) for at in range(0, 22, 2)]
    async with open_app(FinetuiApp(link), size=(80, 20)) as pilot:
        screen = await opened(pilot, link, past[0])
        assert not any(map(has_graph, screen.query(Frame)))  # one value is no history
        for event in (*past[1:], StateChanged(state="finished")):
            link.events.put(event)
        await pilot.settle()
        assert "the whole run, 0:20" in picture(pilot.app)
        frames = screen.query_one(Frames).frames
        cpu, disk = (max(frames[name]._drawn, key=lambda strip: strip.text.count("⣿")).text for name in ("cpu", "disk"))
        assert cpu == "⣿" * len(cpu)
        assert len(disk) > 1.9 * len(cpu)  # the last frame has what is left of its row
        assert "peak 3.0 MB/s" in picture(pilot.app)


async def test_a_journal_without_samples_says_so() -> None:
    link = CannedLink()
    async with open_app(FinetuiApp(link), size=(80, 24)) as pilot:
        await opened(pilot, link, StateChanged(state="finished"))
        assert "written by an earlier version of finetui" in " ".join(picture(pilot.app).split())


async def test_the_ways_there_and_back() -> None:
    link = CannedLink(*BEGINNING, sample(0))
    async with open_app(FinetuiApp(link), size=(80, 24)) as pilot:
        await pilot.settle()
        for back in ("escape", "M", "q"):
            await pilot.press("M")
            await pilot.press("question_mark")
            assert isinstance(pilot.app.screen, HelpScreen)
            await pilot.press("escape")
            assert isinstance(pilot.app.screen, MachineScreen)
            await pilot.press(back)
            assert isinstance(pilot.app.screen, TrainScreen)
        names = [command.title for command in pilot.app.get_system_commands(pilot.app.screen)]
        assert "Machine" in names


# -- what is painted ----------------------------------------------------------------------------------------


async def test_a_sample_paints_a_few_cells(monkeypatch: pytest.MonkeyPatch) -> None:
    link = CannedLink()
    async with open_app(FinetuiApp(link), size=(120, 40)) as pilot:
        await opened(pilot, link, *(sample(float(at), (gpu(),)) for at in range(0, 98, 2)))
        link.events.put(sample(98, (gpu(),), cpu=0.81))
        await pilot.settle()
        painted: list[int] = []
        refresh = Widget.refresh

        def count(self: Widget, *regions: object, **options: object) -> Widget:
            if not options.get("layout") and regions:
                painted.append(sum(region.area for region in regions))  # type: ignore[attr-defined]
            else:
                painted.append(self.size.area)
            return refresh(self, *regions, **options)  # type: ignore[arg-type]

        monkeypatch.setattr(Widget, "refresh", count)
        link.events.put(sample(100, (gpu(),), cpu=0.83))
        await pilot.settle()
        assert 0 < sum(painted) < 60
        painted.clear()
        await pilot.settle()
        assert not painted, "nothing came"


@pytest.mark.parametrize("size", SIZES)
async def test_every_cell_that_a_sample_changes_is_painted(
    size: tuple[int, int], monkeypatch: pytest.MonkeyPatch
) -> None:
    link = CannedLink()
    async with open_app(FinetuiApp(link), size=size) as pilot:
        screen = await opened(pilot, link, *(sample(float(at), (gpu(),)) for at in range(0, 100, 2)))
        before = picture(pilot.app).splitlines()
        painted: set[tuple[int, int]] = set()
        render = Compositor.render_update

        def noted(self: Compositor, *, full: bool = False, **options: Any) -> object:
            update = render(self, full=full, **options)
            if isinstance(update, ChopsUpdate):
                painted.update((y, x) for y, x1, x2 in update.spans for x in range(x1, x2))
            return update

        monkeypatch.setattr(Compositor, "render_update", noted)
        other = {"cpu": 0.13, "engine_cpu": 0.04, "memory_used": 5 * GB, "disk_read": 3e6}
        link.events.put(sample(100, (gpu(use=0.02, temperature=44.0),), **other))
        await pilot.settle()
        after = picture(pilot.app).splitlines()
        assert screen.is_current
        changed = {
            (y, x)
            for y, (old, new) in enumerate(zip(before, after, strict=True))
            for x, (was, now) in enumerate(zip(old, new, strict=True))
            if was != now
        }
        assert len(changed) > 10
        assert changed <= painted


async def test_samples_paint_nothing_on_train_while_a_run_pauses(monkeypatch: pytest.MonkeyPatch) -> None:
    link = CannedLink(*BEGINNING, sample(0), StateChanged(state="paused"))
    async with open_app(FinetuiApp(link), size=(120, 40)) as pilot:
        await pilot.settle()
        assert "CPU  82%" in picture(pilot.app)
        painted: list[Widget] = []
        refresh = Widget.refresh
        monkeypatch.setattr(Widget, "refresh", lambda self, *a, **k: (painted.append(self), refresh(self, *a, **k))[1])
        for at in range(2, 20, 2):
            link.events.put(sample(float(at), cpu=0.1 * at / 2))
            await pilot.settle()
        assert not painted


async def test_what_happens_below_paints_nothing_on_the_screen_above() -> None:
    link = CannedLink()
    async with open_app(FinetuiApp(link), size=(120, 40)) as pilot:
        screen = await opened(pilot, link, sample(0), *(point(step) for step in range(1, 50)))
        drawn: set[int] = set()  # lines
        take_in = screen._compositor.update_widgets

        def note(widgets: set[Widget]) -> None:
            drawn.update(*({*widget.region.line_range} for widget in widgets if widget.screen is screen))
            take_in(widgets)

        screen._compositor.update_widgets = note  # type: ignore[method-assign]
        for step in range(50, 90):
            link.events.put(point(step, loss=9.0 / step))
            await pilot.wait(0.3)
        assert drawn <= {0, 1}, "more than the lines that tell of the run"
        await pilot.press("escape")
        await pilot.settle()
        assert "   89/1,000" in picture(pilot.app), "once it is on top again, all of it is there"


# -- the figures on every screen ----------------------------------------------------------------------------


async def test_the_figures_on_train_come_with_the_first_sample() -> None:
    link = CannedLink(*BEGINNING)
    async with open_app(FinetuiApp(link), size=(80, 24)) as pilot:
        await pilot.settle()
        assert "CPU" not in picture(pilot.app)
        link.events.put(sample(0, (gpu(),)))
        await pilot.settle()
        assert "CPU  82%  mem 1.2G  GPU 0  97%  11.0/80G \n" in picture(pilot.app)
        link.events.put(StateChanged(state="finished"))
        await pilot.settle()
        assert "CPU" not in picture(pilot.app), "it is old"


def machine_words(count: int, width: int, **changes: Any) -> str:
    machine = sample(0, tuple(map(gpu, range(count)))).machine
    return fitting(machine_parts(msgspec.structs.replace(machine, **changes)), width).plain


@pytest.mark.parametrize(
    ("width", "expected"),
    [
        (80, "CPU  82%  mem 1.2G  8 GPUs  97%  116/640G  71 °C"),
        (45, "CPU  82%  mem 1.2G  8 GPUs  97%  116/640G"),
        (33, "CPU  82%  mem 1.2G  8 GPUs  97%"),
        (5, "8 GPUs  97%"),
    ],
)
def test_the_line_drops_what_is_missed_least(width: int, expected: str) -> None:
    assert machine_words(8, width) == expected


def test_the_line_tells_of_others_and_leaves_out_what_is_not_known() -> None:
    crowded = (gpu(process_count=3), gpu(1, temperature=80.0, memory_used=None))
    assert machine_words(0, 120, gpus=crowded, cpu=None) == "mem 1.2G  2 GPUs  97%  80 °C  2 others"
