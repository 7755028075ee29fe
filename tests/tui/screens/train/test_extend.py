"""Training a run further from the dashboard, and the key of the other part."""

import re
from pathlib import Path

import msgspec
import pytest
from canned import CannedLink, evaluated, point, prepared, running
from pilot import open_app, picture
from textual.widgets import Input

from finetui.engine.errors import BadInput
from finetui.engine.protocol.commands import ChangeTraining, FinetunePlan, Start
from finetui.engine.protocol.events import (
    AnyEvent,
    CheckpointSaved,
    CommandAccepted,
    Evaluated,
    KeptCheckpoint,
    RunStarted,
    StateChanged,
    TrainingChanged,
)
from finetui.engine.protocol.queues import CommandQueue
from finetui.engine.runs.folder import RunFolder
from finetui.engine.session.session import Session
from finetui.tui.app.app import FinetuiApp
from finetui.tui.app.links import link_to_finetuned, link_to_resumed
from finetui.tui.screens.train.extend import ExtendForm

LAST = msgspec.structs.replace(point(600), epoch=10)


def finished() -> CannedLink:
    kept = (KeptCheckpoint(name="last", file="last.ckpt", step=600, epoch=10, at=600),)
    saved = CheckpointSaved(file="last.ckpt", kept=kept)
    return CannedLink(*running(LAST, evaluated(10, 0.9), saved, StateChanged(state="finished")))


@pytest.mark.parametrize("size", [(60, 15), (80, 24), (120, 40), (200, 60)])
async def test_a_finished_run_is_trained_further(size: tuple[int, int]) -> None:
    link = finished()
    app = FinetuiApp(link)
    async with open_app(app, size=size) as pilot:
        await pilot.settle()
        await pilot.press("E")
        assert isinstance(app.screen, ExtendForm)
        text = picture(app)
        for word in ("Train further", "Total epochs", "15", "0.001", "15 epochs instead of 10"):
            assert word in text, f"{word} is missing at {size}:\n{text}"
        await pilot.press("1", "2", "down", "0", ".", "0", "5", "enter")
        assert app.screen is app.train_screen
    (sent,) = link.sent
    assert isinstance(sent, ChangeTraining)
    before = prepared().config.training
    assert sent.training == msgspec.structs.replace(before, epochs=12, lr=0.05)
    assert sent.early_stop == 0


async def test_the_form_says_what_cannot_be_and_sends_nothing() -> None:
    link = finished()
    app = FinetuiApp(link)
    async with open_app(app, size=(120, 40)) as pilot:
        await pilot.settle()
        await pilot.press("E")
        for field, typed, says in (
            ("epochs", "10", "10 epochs are already trained"),
            ("epochs", "", "total epochs: type a number"),
            ("lr", "1e", "'1e' is not a number"),
            ("lr", "-1", "positive"),
        ):
            row = app.screen.query_one(f"#{field}", Input)
            before, row.value = row.value, typed
            await pilot.press("enter")
            assert isinstance(app.screen, ExtendForm)
            assert says in picture(app)
            row.value = before
        await pilot.press("escape")
        assert app.screen is app.train_screen
    assert link.sent == []


async def test_a_finished_run_without_an_engine_is_trained_further_in_a_new_one(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    link, asked = finished(), []
    link.steers = False

    def link_to_resumed(folder: RunFolder, *, own: bool, other: ChangeTraining | None) -> CannedLink:
        asked.append((folder.name, own, other))
        return CannedLink(*running())

    monkeypatch.setattr("finetui.tui.app.app.link_to_resumed", link_to_resumed)
    app = FinetuiApp(link)
    async with open_app(app, size=(80, 24)) as pilot:
        await pilot.settle()
        await pilot.press("E")
        assert isinstance(app.screen, ExtendForm)
        await pilot.press("1", "2", "enter")
        await pilot.settle()
        ((name, own, other),) = asked
        assert (name, own) == ("a-run", False)
        assert other is not None and (other.training.epochs, other.early_stop) == (12, 0)
        assert app.train_screen.store.view.state == "running"
    assert link.sent == []


def test_the_engine_of_a_finished_run_is_given_the_new_settings(make_config, recorder) -> None:
    config = make_config(epochs=1)
    Session(config, sinks=[recorder]).run()
    (started,) = recorder.of(RunStarted)
    training = msgspec.structs.replace(config.training, epochs=3, lr=0.02)
    folder = RunFolder(Path(started.path))
    link = link_to_resumed(folder, own=False, other=ChangeTraining(training=training, early_stop=0))
    goes_on = link._task
    assert (goes_on.training.epochs, goes_on.training.lr, goes_on.guards.early_stop) == (3, 0.02, 0)
    with pytest.raises(BadInput, match="already trained"):
        link_to_resumed(folder, own=False, other=ChangeTraining(training=config.training))


@pytest.mark.parametrize(
    ("key", "command"), [("E", "finetui extend .*a-run --epochs N"), ("f", "finetui finetune .*a-run --dashboard")]
)
async def test_where_a_run_cannot_be_steered_the_command_is_said_in_full(key: str, command: str) -> None:
    link = CannedLink(*running())  # another's, that only may be looked at
    link.steers, link.attached = False, True
    app = FinetuiApp(link)
    async with open_app(app, size=(80, 24)) as pilot:
        await pilot.settle()
        await pilot.press(key)
        await pilot.settle()
        (toast,) = app._notifications
        assert re.fullmatch(rf"{command}.*", toast.message)
        assert not toast.markup
    assert link.sent == []


def test_what_the_form_says_is_what_the_engine_does(make_config, recorder) -> None:
    commands = CommandQueue()
    asked = False

    def ask(event: AnyEvent) -> None:
        nonlocal asked
        if isinstance(event, RunStarted) and not asked:
            asked = True
            link = finished()
            view = FinetuiApp(link).train_screen.store.view
            form = ExtendForm(msgspec.structs.replace(view, config=config, state="finished", epoch=1))
            form.text = {"epochs": "2", "lr": "0.02"}.__getitem__  # type: ignore[method-assign]
            commands.put(form.read())

    config = make_config(epochs=1)
    Session(config, commands=commands, sinks=[recorder, ask]).run()
    (changed,) = recorder.of(TrainingChanged)
    assert (changed.training.epochs, changed.training.lr) == (2, 0.02)
    assert [event.epoch for event in recorder.of(Evaluated)] == [1, 2]
    assert any(isinstance(event.command, ChangeTraining) for event in recorder.of(CommandAccepted))
    assert not recorder.of(Start)


@pytest.mark.parametrize("val", [0, 100])
async def test_the_other_part_has_a_key_where_there_is_one(val: int) -> None:
    first, *rest = running(LAST)
    first = msgspec.structs.replace(first, data=msgspec.structs.replace(first.data, val_size=val))
    app = FinetuiApp(CannedLink(first, *rest))
    async with open_app(app, size=(200, 60)) as pilot:
        await pilot.settle()
        assert ("p Val/test" in picture(app).splitlines()[-1]) is bool(val)


def test_the_engine_of_a_finetune_gets_the_plan_and_weights_that_stay(make_config, recorder, tmp_path: Path) -> None:
    Session(make_config(epochs=1, name="base"), sinks=[recorder]).run()
    folder = RunFolder(tmp_path / "runs" / "base")
    plan = FinetunePlan(recipe="full", epochs=2, lr=0.02, data="mnist-sample", val=0.1, checkpoint="best")
    config = link_to_finetuned(folder, plan, own=False)._task
    assert config.finetune is not None
    assert (config.finetune.parent_run, config.finetune.recipe) == ("base", "full")
    assert Path(config.finetune.parent).name.startswith("step-")
    assert (config.training.epochs, config.training.lr, config.data.val) == (2, 0.02, 0.1)
    assert config.run.runs_dir == str(tmp_path / "runs")
    with pytest.raises(BadInput, match="no checkpoint 'nose'"):
        link_to_finetuned(folder, msgspec.structs.replace(plan, checkpoint="nose"), own=False)
    text = folder.config.read_text()
    folder.config.write_text(text.replace('name = "lenet"', 'name = "evil:net"'))
    with pytest.raises(BadInput, match="the code evil:net"):
        link_to_finetuned(folder, plan, own=False)
    folder.config.write_text(text.replace('name = "mnist-sample"', 'name = "evil:data"'))
    with pytest.raises(BadInput, match="the code evil:data"):
        link_to_finetuned(folder, msgspec.structs.replace(plan, data=None), own=False)
