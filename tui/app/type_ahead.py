"""Keys one after the other: what one of them does is done, screens that it opens included, before the next is heard.

Textual hands each key to whatever has the focus when it is read, and looks its bindings up once that has had no use
for it. Of keys that are typed fast, those meant for a screen that is about to open would act on the one below it, and
those that had no use there on the new one.
"""

import asyncio
from collections import deque
from collections.abc import Awaitable, Callable, Iterable, Iterator
from typing import Any

from textual import events
from textual.app import App
from textual.dom import DOMNode

# How often a message may be answered with another one, on the way from a key to the screen that it opens.
_HOPS = 4
_PATIENCE = 5.0  # seconds: what takes longer is stuck, or closed with what was to be passed on


class TypeAhead:
    """Passes keys and pastes of `app` on to `deliver`, each when all is done that the one before it asked for."""

    def __init__(self, app: App[Any], deliver: Callable[[events.Event], Awaitable[None]]) -> None:
        self._app = app
        self._deliver = deliver
        self._waiting: deque[events.Event] = deque()
        self._turn: object | None = None  # of the key that is at work
        self._timer: asyncio.TimerHandle | None = None

    async def add(self, event: events.Event) -> None:
        """Take `event`, which was typed after all others that were added."""
        self._waiting.append(event)
        if self._turn is None:
            await self._next()

    async def _next(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
        self._turn = self._timer = None
        if not self._waiting or self._app._exit:
            return
        turn = self._turn = object()
        self._timer = asyncio.get_running_loop().call_later(_PATIENCE, self._give_up, turn)
        front = self._front()
        await self._deliver(self._waiting.popleft())
        self._pass_on(turn, front, iter(_ways_up(front, _HOPS)))

    def _front(self) -> DOMNode:
        return self._app.focused or self._app.screen

    def _pass_on(self, turn: object, front: DOMNode, way: Iterator[DOMNode]) -> None:
        """Wait behind all that the next node of `way` has to do; those that are gone have nothing to do."""
        if turn is self._turn and not any(node.call_later(self._pass_on, turn, front, way) for node in way):
            self._app.call_later(self._arrive, turn, front)

    async def _arrive(self, turn: object, front: DOMNode) -> None:
        """Go on to the next key, unless this one has brought something else to the front, which may not be ready."""
        if turn is not self._turn:
            return
        now = self._front()
        if now is front:
            await self._next()
        else:
            self._pass_on(turn, now, iter(_ways_up(now, 1)))

    def _give_up(self, turn: object) -> None:
        if turn is self._turn:
            self._app.call_later(self._next)


def _ways_up(node: DOMNode, times: int) -> Iterable[DOMNode]:
    return node.ancestors_with_self * times
