"""Training a run further from the dashboard, and the key of the other part."""

import re

import msgspec
import pytest
from canned import CannedLink, evaluated, point, prepared, running
from pilot import open_app, picture
from textual.widgets import Input

from finetui.engine.protocol.commands import ChangeTraining, Start
from finetui.engine.protocol.events import (
    AnyEvent,
    CommandAccepted,
    Evaluated,
    RunStarted,
    StateChanged,
    TrainingChanged,
)
from finetui.engine.protocol.queues import CommandQueue
from finetui.engine.session.session import Session
from finetui.tui.app.app import FinetuiApp
from finetui.tui.screens.train.extend import ExtendForm

LAST = msgspec.structs.replace(point(600), epoch=10)


def finished() -> CannedLink:
    return CannedLink(*running(LAST, evaluated(10, 0.9), StateChanged(state="finished")))


@pytest.mark.parametrize("size", [(60, 15), (80, 24), (120, 40), (200, 60)])
async def test_a_finished_run_is_trained_further(size: tuple[int, int]) -> None:
    link = finished()
    app = FinetuiApp(link)
    async with open_app(app, size=size) as pilot:
        await pilot.settle()
        await pilot.press("E")
        assert isinstance(app.screen, ExtendForm)
        text = picture(app)
        for word in ("Train further", "Epochs in all", "15", "0.001", "10 epochs become 15"):
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
            ("epochs", "10", "10 are trained"),
            ("epochs", "", "10 are trained"),
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


async def test_where_a_run_cannot_be_steered_the_command_is_said() -> None:
    link = finished()
    link.steers = False
    app = FinetuiApp(link)
    async with open_app(app, size=(120, 40)) as pilot:
        await pilot.settle()
        await pilot.press("E")
        assert re.search(r"finetui extend \S*a-run --epochs N", picture(app))
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
    async with open_app(app, size=(80, 24)) as pilot:
        await pilot.settle()
        assert ("p Part" in picture(app).splitlines()[-1]) is bool(val)
