"""When a screen is laid out and painted: once, when all that was asked for is done, however many messages that took.

Textual lays a new screen out as soon as it is composed, again for each message that comes of that, and paints each
time. It relies on private names of Textual's; `tests/tui/test_textual_overrides.py` fails where they change.
"""

import asyncio
import time
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

from textual import events
from textual.constants import MAX_FPS
from textual.geometry import Size
from textual.message_pump import MessagePump
from textual.screen import Screen
from textual.widget import Widget

from finetui.tui.terminal.compositor import TightCompositor

if TYPE_CHECKING:
    _Base = Screen[Any]
else:
    _Base = MessagePump  # as for `Compound`

_FRAME = 1 / MAX_FPS  # seconds
_SLICE = 0.005  # seconds of processor time: the event loop is to be free again in 0.01 s
_MOST_TURNS = 20  # for one paint: some widgets keep nothing of what they render
_PATIENCE = 0.2  # seconds: what never comes to rest is painted all the same


class Frames(_Base):
    """A first base of a screen that waits with layout and painting until none of its widgets has messages left."""

    _next_size: Size | None = None  # to be laid out in
    _unpainted = False
    _renders = False  # in several turns
    _turns = 0  # that it has taken so far
    _waiting_since = 0.0
    _painted_at = 0.0
    _resumed = False

    def _on_screen_resume(self, event: events.ScreenResume) -> None:
        """Find no styles anew of a screen that has just been composed, but its own: its stylesheet was read after."""
        if not self._resumed:
            self._resumed = True
            event.refresh_styles = False
            self.app.stylesheet.apply(self)

    def _on_screen_suspend(self) -> None:
        """Paint nothing because of what opened above it: that paints what it shows of this one."""
        self._repaint_required = False

    def _screen_resized(self, size: Size) -> None:
        """Lay out for `size`, unless this tells of the last layout.

        The size of a screen is that of the app, and so the new one by now, whatever the layout is. What a terminal
        showed may be lost also where it has its old size again before any other was laid out.
        """
        if size != (self._next_size or self._compositor.size):
            self._compositor._dirty_regions.add(size.region)
            super()._screen_resized(size)

    def _refresh_layout(self, size: Size | None = None, scroll: bool = False) -> None:
        """Lay out now, or, for a new size, with the next frame."""
        if size is not None:
            self._next_size = size
            self._layout_required = True
            self._update_timer.resume()
            return
        size, self._next_size = self._next_size, None
        super()._refresh_layout(size, scroll and size is None)  # to scroll is not enough for a new size

    async def _on_idle(self, event: events.Idle) -> None:
        """Paint at once what is ready, if the last frame was long enough ago."""
        event.prevent_default()
        await super()._on_idle(event)
        if self.app._batch_count:
            self._update_timer.resume()  # Textual forgets what was asked for meanwhile
        if self._update_timer._active.is_set() and not self._renders and time.monotonic() - self._painted_at >= _FRAME:
            self._on_timer_update()

    def _on_timer_update(self) -> None:
        """Lay out and paint, unless widgets still have messages that may change it: then with a later frame."""
        if self._must_wait():
            return
        super()._on_timer_update()
        if self._unpainted and self.is_current:
            self._paint()

    def _compositor_refresh(self) -> None:
        """Paint with the next frame."""
        self._unpainted = True
        self._update_timer.resume()

    def _paint(self) -> None:
        """Paint, unless widgets have something to do after the layout, or more is to be rendered than at once."""
        if self._must_wait():
            return
        if self._turns < _MOST_TURNS and not self._is_rendered():
            # Not with `call_later` alone: a pump that finds a message waiting goes on with it in the same turn.
            self._renders = True
            self._turns += 1
            asyncio.get_running_loop().call_soon(self.call_later, self._go_on)
            return
        self._unpainted = False
        self._turns = 0
        self._update_timer.pause()
        self._painted_at = time.monotonic()
        self._note_seen_through()
        super()._compositor_refresh()

    def _note_seen_through(self) -> None:
        """Have the boxes between this screen and the one in front keep no lines of what has changed here."""
        stack: list[Screen[Any]] = [*self.app.screen_stack]
        changed = self._compositor._dirty_regions
        between = stack[stack.index(self) + 1 : -1] if changed and self in stack else []
        for screen in between:
            screen._styles_cache.set_dirty(*changed)

    def _go_on(self) -> None:
        self._renders = False
        self._on_timer_update()

    def _is_rendered(self) -> bool:
        compositor = self._compositor
        return self is not self.app.screen or not isinstance(compositor, TightCompositor) or compositor.prepare(_SLICE)

    def _must_wait(self) -> bool:
        """Whether nothing can be done now; the timer, which Textual may have paused, asks again with the next frame."""
        waits = bool(self.app._batch_count) or self._is_busy()
        if waits:
            self._update_timer.resume()
        return waits

    def _is_busy(self) -> bool:
        """Whether messages wait for any of its widgets, and have not done so for too long."""
        if not any(map(_has_to_do, self._all_widgets())):
            self._waiting_since = 0.0
            return False
        now = time.monotonic()
        self._waiting_since = self._waiting_since or now
        return now - self._waiting_since < _PATIENCE

    def _all_widgets(self) -> Iterator[Widget]:
        found: list[Widget] = [self]
        while found:
            widget = found.pop()
            yield widget
            found += widget._nodes
            found += filter(None, (widget._vertical_scrollbar, widget._horizontal_scrollbar))


def _has_to_do(widget: Widget) -> bool:
    return not (widget._message_queue.empty() and widget._is_mounted)
