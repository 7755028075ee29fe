"""The only pilot of the tests: it acts on a screen that is drawn, and the clock of what it drives is turned by hand.

While an app is open here, `time.monotonic` stands still: no timer goes off, and no rest, pace or poll is over, until
the test waits for a condition or lets some time pass. So a slow machine changes nothing, and waiting costs nothing.
"""

import asyncio
import gc
import time
import unicodedata
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any, TypeVar
from unittest.mock import patch

from textual import events
from textual.app import App
from textual.css.model import RuleSet
from textual.css.stylesheet import Stylesheet
from textual.keys import REPLACED_KEYS, _character_to_key, _get_unicode_name_from_key
from textual.message_pump import MessagePump
from textual.pilot import Pilot
from textual.screen import Screen
from textual.widget import Widget

Answer = TypeVar("Answer")
Target = Widget | type[Widget] | str

_PATIENCE = 60.0  # seconds: real ones for what is at work, and those of the clock that is turned for a condition
_ALONE = 0.5  # real seconds: a thread that takes longer may be waiting for what the dashboard does at its next poll
_THREAD = "a thread"
_SETTLED = 2.0  # seconds: every poll, rest, pace and debounce of the dashboard is shorter


_parsed: dict[object, list[RuleSet]] = {}
_parse_rules = Stylesheet._parse_rules


def _parsed_once(sheet: Stylesheet, css: str, **options: Any) -> list[RuleSet]:
    """Return the rules of `css`, which are the same in each app that has the same theme."""
    key = css, frozenset(options.items()), frozenset(sheet._variables.items())
    if key not in _parsed:
        _parsed[key] = _parse_rules(sheet, css, **options)
    return _parsed[key]


# A sixth of an app's start. Textual's hash of a rule is its identity as well, but in Python.
Stylesheet._parse_rules = _parsed_once  # type: ignore[method-assign]
RuleSet.__hash__ = object.__hash__  # type: ignore[method-assign,assignment]


class _Clock:
    """A clock that stands still until it is turned."""

    def __init__(self) -> None:
        self.now = time.monotonic()

    def __call__(self) -> float:
        return self.now


class _Threads:
    """Knows whether a thread still works for the event loop, or has an answer that was not taken yet."""

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self._submit = loop.run_in_executor
        self._awaited: set[asyncio.Future[Any]] = set()
        self._working: set[object] = set()  # a cancelled one works on although nobody awaits it

    def submit(self, executor: Any, work: Callable[..., Answer], *arguments: Any) -> asyncio.Future[Answer]:
        def run() -> Answer:
            token = object()
            self._working.add(token)
            try:
                return work(*arguments)
            finally:
                self._working.discard(token)

        future = self._submit(executor, run)
        self._awaited.add(future)
        future.add_done_callback(self._awaited.discard)
        return future

    @property
    def busy(self) -> bool:
        return bool(self._awaited or self._working)


class DashboardPilot(Pilot[Any]):
    """Drives an app; before and after whatever it does the screen is composed, laid out and drawn."""

    def __init__(self, app: App[Any], clock: _Clock, threads: _Threads) -> None:
        super().__init__(app)
        self._clock = clock
        self._threads = threads
        self._loop: Any = asyncio.get_running_loop()

    # -- waiting ----------------------------------------------------------------------------------------

    async def drawn(self) -> None:
        """Wait until all that was asked for by now is done, by threads as well, and is on the screen; or the app ended.

        Raises:
            AssertionError: when it is not done within a minute.
        """
        began = time.perf_counter()
        while self.app._running and self.app._exception is None:
            await asyncio.sleep(0)
            if self._loop._ready:
                continue  # something else can go on at once
            if not (at_work := self._at_work()):
                return
            passed = time.perf_counter() - began
            assert passed < _PATIENCE, f"still at work: {at_work}\n{picture(self.app)}"
            if at_work == [_THREAD] and passed > _ALONE:
                self._turn_to_next_timer(_PATIENCE)
            time.sleep(0.0005)  # lets the threads work; on the loop's own clock this moment would not pass

    def _at_work(self) -> list[str]:
        """Return what is not done, after a push to what only waits for the next frame."""
        app = self.app
        if self._threads.busy:
            return [_THREAD]
        if app._exit:
            return ["the app, which is to end"]
        if busy := [str(pump) for pump in (app, *app._registry) if not _waits(pump)]:
            return busy
        if app._batch_count:  # the palette has nothing painted for a moment
            self._turn_to_next_timer(_PATIENCE)
            return ["a delayed update"]
        if late := [screen for screen in (app.screen, *app._background_screens) if _has_to_draw(screen)]:
            for screen in late:
                screen._on_timer_update()
            return ["the next frame"]
        if app._resize_timer is not None or not app.animator._complete_event.is_set():
            self._turn_to_next_timer(_PATIENCE)
            return ["a new size or an animation"]
        return []

    async def wait(self, seconds: float) -> None:
        """Let `seconds` pass on the clock, and everything happen that is due until then."""
        await self.drawn()  # which may turn the clock itself
        end = self._clock.now + seconds
        while self._turn_to_next_timer(end - self._clock.now):
            await self.drawn()
        self._clock.now = max(self._clock.now, end)

    async def settle(self) -> None:
        """Let everything happen that only takes its time: what was said is heard, shown, asked about and answered."""
        await self.wait(_SETTLED)

    async def until(self, condition: Callable[[], object], what: str = "what was waited for") -> None:
        """Let time pass, timer by timer, until the condition holds on a screen that is drawn.

        Raises:
            AssertionError: when it does not within a minute of the clock; says what did not happen.
        """
        await self.drawn()
        end = self._clock.now + _PATIENCE
        while not condition():
            assert self._turn_to_next_timer(end - self._clock.now), f"{what} did not happen\n{picture(self.app)}"
            await self.drawn()

    def _turn_to_next_timer(self, within: float) -> bool:
        """Turn the clock to when the next timer goes off; return whether that is within so many seconds."""
        if not (due := [handle.when() for handle in self._loop._scheduled if not handle.cancelled()]):
            return False
        if min(due) > self._clock.now + within:
            return False
        self._clock.now = max(self._clock.now, min(due))
        return True

    async def pause(self, delay: float | None = None) -> None:
        """Wait as the mouse actions of Textual's pilot do in between; tests have `drawn`, `wait` and `until`."""
        assert delay is None
        await self.drawn()

    async def _wait_for_screen(self, timeout: float = _PATIENCE) -> bool:
        await self.drawn()
        return True

    # -- acting -----------------------------------------------------------------------------------------

    async def press(self, *keys: str) -> None:
        """Press the keys, each once what the one before it did is drawn."""
        await self.drawn()
        for key in keys:
            self._send(key)
            await self.drawn()

    async def press_at_once(self, *keys: str) -> None:
        """Press the keys without waiting for what any of them does."""
        for key in keys:
            self._send(key)
        await self.drawn()

    def _send(self, key: str) -> None:
        assert self.app._driver is not None
        event = key_event(key)
        event.set_sender(self.app)
        self.app._driver.send_message(event)

    async def click(self, target: Target, offset: tuple[int, int] = (0, 0), *, times: int = 1) -> None:  # type: ignore[override]
        """Click on a widget, which has to be what is under the mouse there."""
        await super().click(await self._under_the_mouse(target, offset), offset, times=times)

    async def hover(self, target: Target, offset: tuple[int, int] = (0, 0)) -> None:  # type: ignore[override]
        """Move the mouse onto a widget, which has to be what is under it there."""
        await super().hover(await self._under_the_mouse(target, offset), offset)

    async def _under_the_mouse(self, target: Target, offset: tuple[int, int]) -> Widget:
        await self.drawn()
        widget = target if isinstance(target, Widget) else self.app.screen.query_one(target)
        under, _ = self.app.screen.get_widget_at(*(widget.region.offset + offset))
        assert widget in under.ancestors_with_self, f"{under} is under the mouse, not {widget}\n{picture(self.app)}"
        return widget


@asynccontextmanager
async def open_app(app: App[Any], size: tuple[int, int] = (80, 24), **options: Any) -> AsyncIterator[DashboardPilot]:
    """Run `app` without a terminal, on a clock that stands still, and give its pilot once the first screen is drawn."""
    loop = asyncio.get_running_loop()
    threads = _Threads(loop)
    # The dashboard freezes what there is: here all apps that were opened, which would stay in memory.
    with patch.object(loop, "run_in_executor", threads.submit), patch.object(gc, "freeze"):
        async with app.run_test(size=size, notifications=True, **options):
            clock = _Clock()  # from now on: what began before must not lie in its future
            with patch("time.monotonic", clock), patch("textual._time.get_time", clock):
                pilot = DashboardPilot(app, clock, threads)
                await pilot.drawn()
                yield pilot


def key_event(key: str) -> events.Key:
    """Return the event of a key, by Textual's name for it or as a character."""
    if len(key) == 1 and not key.isalnum():
        key = _character_to_key(key)
    try:
        character = unicodedata.lookup(_get_unicode_name_from_key(REPLACED_KEYS.get(key, key)))
    except KeyError:
        character = key if len(key) == 1 else ""
    return events.Key(key, character or None)


def picture(app: App[Any]) -> str:
    """Return what is on the screen as text."""
    width, height = app.size
    lines = app.screen._compositor.render_strips(app.size)
    return "\n".join(strip.text.ljust(width) for strip in lines[:height])


def _waits(pump: MessagePump) -> bool:
    """Whether the pump is at its queue, and nothing is in there."""
    queue = pump._message_queue
    getting = any(not getter.done() for getter in queue.ready_event._waiters)
    return pump._is_mounted and getting and queue.empty() and not pump._next_callbacks


def _has_to_draw(screen: Screen[Any]) -> bool:
    return screen._update_timer._active.is_set()
