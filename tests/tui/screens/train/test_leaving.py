"""Leaving the Train screen: what it asks, and what becomes of the engine."""

import pytest
from canned import CannedLink, running
from pilot import open_app, picture

from finetui.engine.protocol.commands import Stop
from finetui.engine.protocol.events import Phase, StateChanged
from finetui.tui.app.app import FinetuiApp


@pytest.mark.parametrize("state", ["running", "paused"])
@pytest.mark.parametrize("key", ["q", "d"])
async def test_leaving_a_run_that_goes_on_does_not_ask(state: str, key: str) -> None:
    link = CannedLink(*running(StateChanged(state=state)))
    app = FinetuiApp(link)
    async with open_app(app, size=(80, 24)) as pilot:
        await pilot.settle()
        await pilot.press(key)
        assert not app.is_running
    assert link.sent == []
    assert link.closed


async def test_leaving_before_the_start_gives_the_preparation_up() -> None:
    link = CannedLink(Phase(name="Downloading x.gz", done=30, total=120))
    app = FinetuiApp(link)
    async with open_app(app, size=(80, 24)) as pilot:
        await pilot.settle()
        await pilot.press("q")
        assert not app.is_running
    assert [type(sent) for sent in link.sent] == [Stop]


async def test_leaving_somebody_elses_engine_while_it_prepares_stops_nothing() -> None:
    link = CannedLink(StateChanged(state="preparing"))
    link.attached = True
    app = FinetuiApp(link)
    async with open_app(app, size=(80, 24)) as pilot:
        await pilot.settle()
        await pilot.press("q")
        assert not app.is_running
    assert link.sent == []


class _MortalLink(CannedLink):
    """A link whose engine ends with the dashboard."""

    outlives = False


async def test_leaving_a_run_that_ends_with_the_dashboard_asks() -> None:
    link = _MortalLink(*running())
    app = FinetuiApp(link)
    async with open_app(app, size=(80, 24)) as pilot:
        await pilot.settle()
        await pilot.press("q")
        assert "Stop and quit" in picture(app)
        await pilot.press("escape")
        assert app.is_running
        await pilot.press("d")
        assert app.is_running
        assert "Detaching would end the training" in picture(app)
    assert link.sent == []


async def test_stop_and_save_waits_for_the_engine() -> None:
    link = _MortalLink(*running())
    app = FinetuiApp(link)
    async with open_app(app, size=(80, 24)) as pilot:
        await pilot.settle()
        await pilot.press("q")
        await pilot.press("enter")
        await pilot.settle()
        assert [type(sent) for sent in link.sent] == [Stop]
        assert app.is_running
        link.events.put(StateChanged(state="stopped"))
        await pilot.until(lambda: not app.is_running)
        assert not app.is_running


async def test_leaving_when_nothing_is_lost_does_not_ask() -> None:
    app = FinetuiApp(CannedLink(*running(StateChanged(state="finished"))))
    async with open_app(app, size=(80, 24)) as pilot:
        await pilot.settle()
        await pilot.press("q")
        assert not app.is_running
