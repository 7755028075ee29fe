"""Keys and answers that come while a screen is being opened, is being taken away, or the program is left."""

import asyncio
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import get_args

import pytest
from canned import CannedLink, running
from canned_predictions import predictions, saved
from errors_pilot import events_of
from pilot import open_app
from textual import events
from textual.app import ComposeResult
from textual.command import CommandList
from textual.screen import Screen as AnyScreen
from textual.widgets import Static

from finetui.engine.protocol.commands import AnyQuestion, Evaluate, ViewLayer
from finetui.engine.protocol.events import CommandRefused, LayerView, StateChanged
from finetui.engine.runs.folder import RunFolder
from finetui.tui.app.app import FinetuiApp
from finetui.tui.queries.layer_queries import Look
from finetui.tui.screens import base
from finetui.tui.screens.base import Palette
from finetui.tui.screens.layers.layer_pane import LayerPane
from finetui.tui.screens.run_chosen import RunChosen
from finetui.tui.screens.train.messages import ResumeWanted
from finetui.tui.screens.train.screen import TrainScreen
from finetui.tui.widgets.option_list import OptionList


async def at_once(app: FinetuiApp, condition: Callable[[], bool]) -> None:
    """Return at the first moment that `condition` holds, before anything else can happen."""
    end = time.perf_counter() + 60
    while not condition():
        assert time.perf_counter() < end, "it never came"
        await asyncio.sleep(0)


def key(name: str, *, unheard_below: bool = False) -> events.Key:
    """Return the key `name`; with `unheard_below` one that no widget had any use for."""
    event = events.Key(name, name if len(name) == 1 else None)
    if unheard_below:
        event._set_forwarded()
    return event


class _Fragile(base.Screen[None]):
    """A screen whose handlers need its widgets."""

    BINDINGS = [("e", "read", "Read")]
    has_read = False

    def compose(self) -> ComposeResult:
        yield Static(id="text")

    def on_mount(self) -> None:
        self.query_one("#text")

    def on_key(self) -> None:
        self.query_one("#text")

    def action_read(self) -> None:
        self.has_read = True


async def test_keys_after_the_wish_to_leave_are_dropped() -> None:
    app = FinetuiApp(CannedLink(*running()))
    async with open_app(app) as pilot:
        await pilot.settle()
        screen = _Fragile()
        await app.push_screen(screen)
        app.exit()
        screen._nodes._clear()  # as if its widgets had been faster to go
        await app.on_event(key("e", unheard_below=True))
        assert not screen.has_read
    assert app.failure is None


async def test_a_screen_that_is_taken_away_before_it_was_there_does_nothing() -> None:
    app = FinetuiApp(CannedLink(*running()))
    async with open_app(app) as pilot:
        await pilot.settle()
        screen = _Fragile()
        app.push_screen(screen)
        assert not screen.stands
        screen.dismiss(None)
        await pilot.settle()
        assert isinstance(app.screen, TrainScreen)
        assert not screen.stands


@pytest.mark.parametrize("leave", ["dismiss", "exit"])
async def test_keys_for_a_screen_that_was_left_are_dropped(leave: str) -> None:
    app = FinetuiApp(CannedLink(*running()))
    async with open_app(app) as pilot:
        await pilot.settle()
        screen = _Fragile()
        await app.push_screen(screen)
        assert screen.stands
        if leave == "dismiss":
            screen.dismiss(None)
        else:
            app.exit()
        assert not screen.stands
        screen._nodes._clear()  # as if its widgets had been faster to go
        await screen._dispatch_message(key("x"))
    assert app.failure is None


async def test_a_screen_is_left_once_and_takes_along_what_is_above_it() -> None:
    app = FinetuiApp(CannedLink(*running()))
    async with open_app(app) as pilot:
        await pilot.settle()
        results: list[None] = []
        screen = _Fragile()
        await app.push_screen(screen, results.append)
        await app.push_screen(_Fragile())
        screen.dismiss(None)
        screen.dismiss(None)
        assert app.screen is app.train_screen
        await pilot.settle()
        assert app.screen is app.train_screen
        assert len(results) == 1


async def test_the_palettes_search_ends_with_it() -> None:
    app = FinetuiApp(CannedLink(*running()))
    async with open_app(app) as pilot:
        await pilot.settle()
        app.post_message(key("ctrl+p"))
        await at_once(app, lambda: isinstance(app.screen, Palette))
        await pilot.settle()
        palette: AnyScreen[object] = app.screen
        app.post_message(key("s"))
        await at_once(app, lambda: any(worker.node is palette and worker.is_running for worker in app.workers))
        palette.dismiss(None)
        await at_once(app, lambda: palette._pruning)
        assert not any(worker.node is palette and not worker.is_cancelled for worker in app.workers)
        await pilot.settle()
        assert isinstance(app.screen, TrainScreen)
    assert app.failure is None


@pytest.mark.parametrize("name", ["pageup", "pagedown"])
async def test_pages_of_a_list_that_is_not_laid_out_yet(name: str) -> None:
    app = FinetuiApp(CannedLink(*running()))
    async with open_app(app) as pilot:
        await pilot.settle()
        await pilot.press("c")
        options = app.screen.query_one(OptionList)
        options.add_option("one")
        options.highlighted = 0
        options._index_to_line.clear()  # as it is until it is drawn
        await app.run_action("page_up" if name == "pageup" else "page_down", options)
        await pilot.press("escape", "ctrl+p", "x", "x", "x", "x", name)
        app.screen.query_one(CommandList)._index_to_line.clear()
        await pilot.press(name)
        assert isinstance(app.screen, Palette)
    assert app.failure is None


@pytest.mark.parametrize("leave", [False, True])
async def test_what_was_to_be_done_once_all_is_drawn_is_dropped_with_its_screen(leave: bool) -> None:
    app = FinetuiApp(CannedLink(*running()))
    async with open_app(app) as pilot:
        await pilot.settle()
        screen = _Fragile()
        await app.push_screen(screen)
        screen.call_after_refresh(screen.action_read)
        if leave:
            screen.dismiss(None)
        await pilot.settle()
        assert screen.has_read != leave


async def test_a_page_of_images_that_comes_when_the_grid_is_gone() -> None:
    pane, look = LayerPane(), Look("conv1", "filters", 0)
    pane._shown = look
    pane._fill(look, LayerView(command=ViewLayer(layer="conv1", view="filters"), shape=(1,), total=1), False)


@pytest.mark.parametrize("name", ["finetune", "layers", "errors"])
async def test_answers_that_come_while_the_screen_that_asked_is_taken_away_are_dropped(
    tmp_path: Path, name: str
) -> None:
    saved(tmp_path, predictions(50))
    link = CannedLink(*events_of(tmp_path))
    app = FinetuiApp(link)
    async with open_app(app) as pilot:
        await pilot.settle()
        app.train_screen.open_screen(name)
        questions = (*get_args(AnyQuestion), Evaluate)
        await pilot.settle()
        assert any(isinstance(command, questions) for command in link.sent)
        screen = app.screen
        screen.dismiss(None)
        screen._nodes._clear()  # as if its widgets had been faster to go
        for command in link.sent:
            app.train_screen.asker.deliver(CommandRefused(command=command, reason="too late"))
        assert not app.train_screen.asker._waiting
        await pilot.settle()
    assert app.failure is None


async def test_a_run_that_was_visited_is_said_goodbye_to_however_the_screen_goes(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    visited = CannedLink(*running())
    monkeypatch.setattr("finetui.tui.app.links.AttachLink", lambda _folder, *, reading=False: visited)
    app = FinetuiApp(CannedLink(*running()))
    async with open_app(app) as pilot:
        await pilot.settle()
        app.train_screen.post_message(RunChosen(tmp_path))
        await at_once(app, lambda: app.screen is not app.train_screen)
        await pilot.settle()
        assert not visited.closed
        await pilot.press("d")  # leaves the program from the visited run's screen
        await at_once(app, lambda: not app.is_running)
    assert visited.closed


async def test_a_run_that_is_asked_to_go_on_twice_gets_one_engine(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    class Beginning(CannedLink):
        began = False

        def run(self) -> None:
            assert not self.began
            self.began = True

    links: list[Beginning] = []
    both = threading.Barrier(2)

    def link_to_resumed(_folder: RunFolder, *, own: bool, other: object) -> Beginning:
        both.wait(20)
        links.append(Beginning(*running()))
        return links[-1]

    monkeypatch.setattr("finetui.tui.app.app.link_to_resumed", link_to_resumed)
    app = FinetuiApp(CannedLink(*running(StateChanged(state="stopped"))))
    async with open_app(app) as pilot:
        await pilot.settle()
        before = app.train_screen
        before.post_message(ResumeWanted(tmp_path, own=True))
        await at_once(app, lambda: both.n_waiting == 1)
        before.post_message(ResumeWanted(tmp_path, own=True))
        await at_once(app, lambda: app.train_screen is not before)
        await pilot.settle()
        assert len(links) == 2
        assert app.screen is app.train_screen
        assert sorted(link.began for link in links) == [False, True]
        assert app.link.began
        assert not app.link.closed
