"""How many keys a task takes, from the Train screen on; what is typed into a field does not count."""

from collections.abc import Callable
from pathlib import Path

import pytest
from canned import CannedLink
from canned_predictions import AnsweringLink, predictions, saved
from errors_pilot import events_of
from made_runs import write_run
from pilot import open_app

from finetui.engine.protocol.commands import (
    AnyCommand,
    ExplainImage,
    FinetunePlan,
    PreviewFinetune,
    RollBack,
    SetFrozen,
    SetLearningRate,
    Start,
    StartFinetune,
)
from finetui.engine.protocol.events import CheckpointSaved, FinetunePreview, StateChanged
from finetui.engine.protocol.values import KeptCheckpoint
from finetui.tui.app import app as app_module
from finetui.tui.app.app import FinetuiApp
from finetui.tui.screens.errors.screen import ErrorsScreen
from finetui.tui.screens.machine.screen import MachineScreen
from finetui.tui.screens.runs.compared.screen import ComparedScreen
from finetui.tui.screens.train import finetune
from finetui.tui.screens.train.screen import TrainScreen
from finetui.tui.state.data_choices import DataChoice

Done = Callable[[FinetuiApp, "Link"], object]


class Link(AnsweringLink):
    """Answers the questions of the finetune form as well."""

    def send(self, command: AnyCommand) -> None:
        super().send(command)
        if isinstance(command, PreviewFinetune):
            self.events.put(FinetunePreview(command=command, problem="", head="keep", total_parameters=44426))


def sent(kind: type[AnyCommand], **fields: object) -> Done:
    """Return a question: was a command of this kind sent, with those fields?"""
    return lambda _, link: any(
        all(getattr(command, name) == value for name, value in fields.items()) for command in link.asked(kind)
    )


def on(kind: type) -> Done:
    return lambda app, _: isinstance(app.screen, kind)


def planned(**fields: object) -> Done:
    return lambda _, link: any(
        all(getattr(command.plan, name) == value for name, value in fields.items())
        for command in link.asked(StartFinetune)
    )


def on_pair(app: FinetuiApp, _: Link) -> bool:
    if not isinstance(app.screen, ErrorsScreen) or app.screen._listing is None:
        return False
    selection = app.screen._listing.selection
    return selection.true is not None and selection.predicted is not None


def compared(app: FinetuiApp, _: Link) -> bool:
    listing = app.screen._listing if isinstance(app.screen, ErrorsScreen) else None
    return listing is not None and bool(listing.selection.change)


def opened_another(app: FinetuiApp, _: Link) -> bool:
    return app.screen is not app.train_screen and isinstance(app.screen, TrainScreen)


# What is done, by which keys, typed text as one item of several characters, and how one sees that it was done.
TASKS: dict[str, tuple[int, tuple[str, ...], Done]] = {
    "watch the run": (0, (), lambda app, _: app.screen is app.train_screen),
    "start training": (1, ("s",), sent(Start)),
    "next learning rate": (1, ("+",), sent(SetLearningRate)),
    "exact learning rate": (2, ("l", "0.01", "enter"), sent(SetLearningRate, value=0.01)),
    "freeze the first layer": (2, ("F", "space"), sent(SetFrozen, groups=("conv1",), frozen=True)),
    "finetune, defaults": (2, ("f", "enter"), planned(data=None, recipe=FinetunePlan().recipe)),
    "finetune on other data": (4, ("f", "tab", "down", "enter"), planned(data="fashion-mnist")),
    "browse the mistakes": (1, ("m",), on(ErrorsScreen)),
    "images of the most confused pair": (3, ("m", "C", "enter"), on_pair),
    "explain an image": (2, ("m", "i"), sent(ExplainImage)),
    "what another run gets right": (3, ("m", "D", "enter"), compared),
    "roll back to best": (5, ("c", "down", "down", "enter", "enter"), sent(RollBack, checkpoint="best")),
    "a plot alone": (1, ("z",), lambda app, _: app.screen.has_class("-zoomed")),
    "the machine": (1, ("M",), on(MachineScreen)),
    "open another run": (3, ("r", "down", "enter"), opened_another),
    "the curves of two runs": (5, ("r", "space", "down", "space", "D"), on(ComparedScreen)),
}


@pytest.fixture
def runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Two runs, each with predictions, beside the one that is shown, and two sets of data on this machine."""
    for name, at in (("other", 1.70e9), ("third", 1.71e9)):
        write_run(tmp_path, name, at=at)
        saved(tmp_path / name, predictions(), "best.predictions")
    here = (DataChoice("mnist", None, "60,000 images", 60000), DataChoice("fashion-mnist", None, "", 12800))
    monkeypatch.setattr(finetune, "data_choices", lambda *_: here)
    monkeypatch.setattr(app_module, "link_to_run", lambda folder, reading: CannedLink(*events_of(folder.path)))
    return tmp_path


@pytest.mark.parametrize("task", TASKS)
async def test_a_task_takes_so_many_keys(runs: Path, task: str) -> None:
    count, keys, done = TASKS[task]
    saved(runs / "a-run", predictions())
    kept = tuple(
        KeptCheckpoint(name=name, file=f"{name}.ckpt", step=step, epoch=1, at=step)
        for name, step in (("last", 100), ("previous", 90), ("best", 80))
    )
    link = Link(*events_of(runs / "a-run"), CheckpointSaved(file="last.ckpt", step=100, at=100, kept=kept))
    if task == "start training":
        link.events.put(StateChanged(state="ready"))
    app = FinetuiApp(link)
    async with open_app(app, size=(120, 40)) as pilot:
        await pilot.settle()
        assert task == "watch the run" or not done(app, link)
        for key in keys:
            await pilot.press(*(key if key not in ("enter", "space", "tab", "down") else (key,)))
            await pilot.settle()
        await pilot.until(lambda: done(app, link), task)
    assert len([key for key in keys if key != "0.01"]) == count
