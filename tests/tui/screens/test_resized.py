"""After the terminal's size has changed, each screen shows what it shows when it is opened at that size."""

import re
from pathlib import Path

import msgspec
import pytest
from canned import evaluated, point, running
from canned_layers import TABLE, EngineLink
from canned_machine import gpu, sample
from canned_predictions import predictions, saved
from made_runs import write_run
from pilot import DashboardPilot, open_app, picture

from finetui.engine.protocol.commands import AnyCommand, FindDuplicates
from finetui.engine.protocol.events import (
    CheckpointSaved,
    DuplicatesFound,
    KeptCheckpoint,
    LayersChanged,
    Log,
    RunStarted,
)
from finetui.engine.runs.journal import encode_line
from finetui.tui.app.app import FinetuiApp
from finetui.tui.screens.log.screen import LogScreen
from finetui.tui.screens.train.screen import TrainScreen

FIRST, SIZES = (200, 60), ((80, 24), (120, 40), (200, 60))
# The keys that lead to each from Train.
SCREENS = {
    "train": (),
    "errors": ("m",),
    "errors, large": ("m", "enter"),
    "confusion": ("m", "C"),
    "scores": ("m", "S"),
    "layers": ("g",),
    "layers, feature maps": ("g", "down", "2"),
    "audit": ("g", "5"),
    "audit, large": ("g", "5", "z"),
    "log": ("o",),
    "machine": ("M",),
    "runs": ("r",),
    "comparison": ("r", "space", "down", "space", "down", "space", "D"),
    "comparison, scores": ("r", "space", "down", "space", "D", "3"),
    "checkpoints": ("c",),
    "finetune": ("f",),
    "extend": ("E",),
    "help": ("question_mark",),
    "help of a screen": ("m", "question_mark"),
}


class FullLink(EngineLink):
    """Answers what any screen asks."""

    def answer(self, command: AnyCommand) -> None:
        super().answer(command)
        if isinstance(command, FindDuplicates):
            self.events.put(DuplicatesFound(command=command, pairs=((1, 2),)))


def dashboard(runs: Path) -> FinetuiApp:
    """Return one over a run, among others, of which there is something to see on every screen."""
    link = FullLink()
    kept = (KeptCheckpoint(name="last", file="last.ckpt", step=100, epoch=1, at=100),)
    seen = msgspec.structs.replace(evaluated(1, 0.9), predictions="last.predictions")
    began, ready, _, runs_now = running()
    started = RunStarted(name="a-run", path=str(runs / "a-run"))
    points = [point(step, 2 / step + step % 7 / 50) for step in range(10, 400, 10)]
    logs = [Log(time=1.7e9 + n, level="info", message=f"message {n} {'with many words ' * (n % 9)}") for n in range(90)]
    told = [began, ready, started, runs_now, LayersChanged(layers=TABLE), *points[:10], seen, *points[10:], *logs]
    told += [CheckpointSaved(file="last.ckpt", step=100, at=100, kept=kept)]
    told += [sample(second, (gpu(), gpu(1))) for second in range(0, 60, 2)]
    events = [msgspec.structs.replace(event, seq=n) for n, event in enumerate(told)]
    (runs / "a-run" / "journal.jsonl").write_bytes(b"".join(map(encode_line, events)))
    for event in events:
        link.events.put(event)
    return FinetuiApp(link)


async def shown(pilot: DashboardPilot) -> str:
    """Return what the screen shows once all has come that comes by itself, and no toast is left."""
    await pilot.wait(20)
    text = picture(pilot.app)
    # The bar of the log is about lines of which only those that were seen are wrapped.
    return re.sub("[▁▂▃▄▅▆▇█]", " ", text) if isinstance(pilot.app.screen, LogScreen) else text


async def show(pilot: DashboardPilot, *keys: str) -> None:
    for key in keys:
        await pilot.press(key)
        await pilot.settle()


async def leave(pilot: DashboardPilot) -> None:
    """Go back to Train, as it was at first."""
    while not isinstance(pilot.app.screen, TrainScreen):
        await pilot.press("escape")
    await pilot.press("1")
    pilot.app.screen.set_focus(None)


@pytest.fixture
def runs(tmp_path: Path) -> Path:
    found = tmp_path / "runs"
    saved(found / "a-run", predictions())
    for number, name in enumerate(("one", "two", "three")):
        write_run(found, name, lr=0.1 / (number + 1), accuracy=0.8 + number / 20, at=1.7e9 + 1e6 * number, seed=number)
    return found


FEW = ("train", "errors", "audit", "log", "runs", "help")


@pytest.mark.timeout(240)
@pytest.mark.parametrize(
    "names", [FEW, pytest.param(tuple(name for name in SCREENS if name not in FEW), marks=pytest.mark.slow)]
)
async def test_a_screen_at_another_size_is_as_if_it_were_opened_there(runs: Path, names: tuple[str, ...]) -> None:
    screens = {name: SCREENS[name] for name in names}
    fresh: dict[tuple[str, tuple[int, int]], str] = {}
    for size in dict.fromkeys(SIZES):
        async with open_app(dashboard(runs), size=size) as pilot:
            for name, keys in screens.items():
                await show(pilot, *keys)
                fresh[name, size] = await shown(pilot)
                await leave(pilot)
    wrong = []
    async with open_app(dashboard(runs), size=FIRST) as pilot:
        for name, keys in screens.items():
            await show(pilot, *keys)
            for size in SIZES:
                await pilot.resize_terminal(*size)
                found = await shown(pilot)
                if found != fresh[name, size]:
                    wrong.append(f"{name} at {size}:\n{found}\n-- opened there:\n{fresh[name, size]}")
            await leave(pilot)
            await pilot.resize_terminal(*FIRST)
    assert wrong == [], "\n".join(wrong)
