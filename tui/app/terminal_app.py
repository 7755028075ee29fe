"""What a Textual App does in its own way when it is drawn on a `Terminal`: it is driven, prints and fails otherwise."""

import asyncio
import sys
import traceback
from collections.abc import Callable
from typing import Any

from rich.color import ColorSystem
from rich.console import RenderableType
from textual import events
from textual._compositor import CompositorUpdate
from textual.app import App
from textual.driver import Driver
from textual.screen import Screen
from textual.worker import WorkerFailed

from finetui.tui.app.type_ahead import TypeAhead
from finetui.tui.app.worker_threads import DaemonExecutor
from finetui.tui.colours.depth import Depth
from finetui.tui.colours.monochrome import MarksForColours
from finetui.tui.terminal.shown_cells import CellsUpdate, ShownCells
from finetui.tui.terminal.terminal import Terminal

_SYSTEMS: dict[Depth, ColorSystem] = {
    "truecolor": ColorSystem.TRUECOLOR,
    "256": ColorSystem.EIGHT_BIT,
    "16": ColorSystem.STANDARD,
    "none": ColorSystem.STANDARD,
}


class TerminalApp(App[None]):
    """An App that leaves at once and in order, whatever has gone wrong."""

    def __init__(self, terminal: Terminal | None, is_leaving: Callable[[], bool], depth: Depth) -> None:
        """Draw on `terminal`, if there is one, in colours of `depth`; `is_leaving` tells whether the process ends."""
        self.terminal = terminal
        self.depth = depth
        super().__init__()
        # Textual's own way without colours is shades of grey, which are colours.
        self.no_color = depth == "none"
        self._filters = [*self._filters[:1], *([MarksForColours()] if self.no_color else [])]
        self.console._color_system = _SYSTEMS[depth]
        self.is_leaving = is_leaving
        self.shown_cells = ShownCells()
        self._typed = TypeAhead(self, super().on_event)
        self.failure: BaseException | None = None  # what went wrong in the dashboard itself

    def get_driver_class(self) -> type[Driver]:
        """Choose how the terminal is driven."""
        if self.terminal is None:
            return super().get_driver_class()
        from finetui.tui.terminal.driver import TerminalDriver

        return TerminalDriver

    def on_load(self) -> None:
        """Let nothing wait for threads at the end."""
        asyncio.get_running_loop().set_default_executor(DaemonExecutor())

    async def on_event(self, event: events.Event) -> None:
        """Hear no more input once the program is being left: the screens that it is for are being taken apart."""
        if self._exit and isinstance(event, (events.InputEvent, events.Paste)):
            return
        if isinstance(event, (events.Key, events.Paste)) and not event.is_forwarded:
            await self._typed.add(event)
        else:
            await super().on_event(event)

    def _display(self, screen: Screen[Any], renderable: RenderableType | None) -> None:
        if isinstance(renderable, CompositorUpdate):
            renderable = CellsUpdate(renderable, self.shown_cells)
        super()._display(screen, renderable)

    def _load_screen_css(self, screen: Screen[Any]) -> None:
        """Read the stylesheets of `screen`: Textual reads all others anew as well, and styles what is shown anew."""
        paths = [path for path in screen.css_path if not self.stylesheet.has_source(str(path), "")]
        self.stylesheet.read_all(paths)
        if paths:
            self.stylesheet.parse()

    def write_to_terminal(self, text: str) -> None:
        """Write `text`, which may be a sequence, to the terminal, if that is there."""
        if self._driver is not None:
            self._driver.write(text)

    def fail(self, error: Exception) -> None:
        """End with `error`; keep the traceback off the terminal: it is for the log, and one sentence for the person."""
        self._return_code = 1
        cause = error.error if isinstance(error, WorkerFailed) else error
        if self._exception is None:
            self._exception = error
            self._exception_event.set()
            self.failure = cause
        traceback.print_exception(cause, file=sys.__stderr__)
        self._close_messages_no_wait()

    def _handle_exception(self, error: Exception) -> None:
        self.fail(error)

    def _print(self, text: str, stderr: bool = False) -> None:
        """Let what a library prints go where the process's output goes, instead of nowhere."""
        super()._print(text, stderr)
        if self.terminal is not None:
            stream = sys.__stderr__ if stderr else sys.__stdout__
            if stream is not None:
                stream.write(text)
                stream.flush()
