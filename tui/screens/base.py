"""What all screens have in common: the keys that mean the same everywhere, and that one that is left hears no more.

This relies on private names of Textual's; `tests/tui/test_textual_overrides.py` fails where they change.
"""

from collections.abc import Callable
from typing import TYPE_CHECKING, Any, ClassVar, TypeVar

from textual import screen
from textual.await_complete import AwaitComplete
from textual.await_remove import AwaitRemove
from textual.binding import BindingType
from textual.command import CommandList, CommandPalette
from textual.reactive import reactive
from textual.widget import Widget

from finetui.tui.keys import bind
from finetui.tui.screens.backdrop import Backdrop
from finetui.tui.screens.frames import Frames
from finetui.tui.terminal.compositor import TightCompositor
from finetui.tui.unavailable import SaysWhyNot
from finetui.tui.widgets.compound import Compound
from finetui.tui.widgets.option_list import pages

if TYPE_CHECKING:

    class _Base(SaysWhyNot, Compound, Frames, screen.Screen[Any]):
        pass
else:

    class _Base(SaysWhyNot, Compound, Frames):
        pass


T = TypeVar("T")
Callback = Callable[..., Any]
_FULL = ("errors", "layers", "runs", "log", "machine")
_BOXES = ("checkpoints", "finetune")  # stand above the screen where their key was pressed


class _DismissOnce(_Base):
    """Drops what comes once it is dismissed, or the program left: its widgets may be gone, or have never come.

    Its help says `TITLE_TEXT`, the first paragraph of `INTRODUCTION`, its keys, and the other paragraphs.
    """

    TITLE_TEXT: ClassVar[str] = ""
    INTRODUCTION: ClassVar[str] = ""
    # Textual's own paints the whole screen anew whenever the focus moves: both widgets do that for themselves.
    focused: reactive[Widget | None] = reactive(None, repaint=False)
    _dismissed = False

    @property
    def help_title(self) -> str:
        """What the help is headed by."""
        return self.TITLE_TEXT

    def copyable(self) -> str | None:
        """Return the path or command that is shown, for the key Copy; None where the run's is meant."""
        return None

    def action_back(self) -> None:
        """Go back one level."""
        self.dismiss(None)

    async def _compose(self) -> None:
        """Take the classes of the terminal's size at once: Textual does later, and styles and paints all twice."""
        for size, classes in zip(self.app.size, (self.HORIZONTAL_BREAKPOINTS, self.VERTICAL_BREAKPOINTS), strict=True):
            self.add_class(*self._get_breakpoint_classes(size, classes or []), update=False)
        await super()._compose()

    def action_close(self) -> None:
        """Go back to the screen below."""
        self.dismiss(None)

    @property
    def stands(self) -> bool:
        """Whether its widgets are there: an answer, or a thread, may come when they are not any more."""
        return self.is_mounted and not self._is_going

    @property
    def _is_going(self) -> bool:
        return self._dismissed or super()._is_going

    def is_left(self) -> bool:
        """Note that it is dismissed, and what was opened above it with it; return False where it has been already.

        Textual takes away whatever is on top, each time that a screen is dismissed.
        """
        stack: list[object] = [*self.app.screen_stack]
        if self._is_going or self not in stack:
            return False
        for _ in stack[stack.index(self) + 1 :]:
            self.app.pop_screen()
        self._dismissed = True
        return True

    def dismiss(self, result: Any = None) -> AwaitComplete:
        """Leave it with `result`; only once, however often that is wished for."""
        return super().dismiss(result) if self.is_left() else AwaitComplete()

    def call_after_refresh(self, callback: Callback, *args: Any, **kwargs: Any) -> bool:
        """Call it once all is drawn, unless this screen has been left: whichever is on top then would call it."""
        return super().call_after_refresh(lambda: callback(*args, **kwargs) if self.stands else None)

    def remove(self) -> AwaitRemove:
        """Take it away, and with it what its workers, and those of its widgets, still do on the event loop."""
        for node in self.walk_children(with_self=True):
            self.workers.cancel_node(node)
        return super().remove()


class Screen(_DismissOnce, screen.Screen[T]):
    """A screen that fills the terminal, and paints and sends only the cells that changed.

    The keys of the key map's screens open those from here: `NAME` is this one's own, which its key closes.
    """

    NAME: ClassVar[str] = ""
    BINDINGS: ClassVar[list[BindingType]] = [
        bind("back"),
        bind("close", show=False),
        bind("help", "app.help"),
        *(bind(name, f"go('{name}')", show=False) for name in (*_FULL, *_BOXES)),
    ]

    def __init__(self) -> None:
        super().__init__()
        self._compositor = TightCompositor()

    def check_action(self, action: str, parameters: tuple[object, ...]) -> bool | None:
        """Other screens can be opened where there is one that they are opened from."""
        if action == "go":
            home = self._home()
            if home is None or not home.opens_others:
                return False
        return super().check_action(action, parameters)

    def why_not(self, action: str, parameters: tuple[object, ...]) -> str:
        """Another screen may have nothing to be opened for."""
        home = self._home() if action == "go" else None
        return home.why_not_open(str(parameters[0])) if home is not None else super().why_not(action, parameters)

    def action_go(self, name: str) -> None:
        """Open the screen called `name` in place of this one, or a box above this one; from itself: go back."""
        home = self._home()
        if home is None:
            return
        if name in _FULL and self is not home:
            stack: list[Any] = [*self.app.screen_stack]
            stack[stack.index(home) + 1 if name != self.NAME else stack.index(self)].dismiss(None)
        if name != self.NAME:
            home.open_screen(name)

    def _home(self) -> "HomeScreen[Any] | None":
        stack: list[object] = [*self.app.screen_stack]
        below = stack[: stack.index(self) + 1] if self in stack else []
        return next((one for one in reversed(below) if isinstance(one, HomeScreen)), None)

    def _compositor_refresh(self) -> None:
        """Paint nothing below a screen that hides it: Textual would have all of that one painted anew.

        Once it is on top again, all of it is painted.
        """
        stack: list[screen.Screen[Any]] = [*self.app.screen_stack]
        above = stack[stack.index(self) + 1 :] if self in stack else []
        if any(one.styles.background.a == 1 for one in above):
            self._dirty_widgets.clear()
            self._compositor._dirty_regions.clear()
        else:
            super()._compositor_refresh()


class HomeScreen(Screen[T]):
    """A screen that the other screens are opened from."""

    opens_others = True

    def open_screen(self, name: str) -> None:
        """Open the one called `name` in the key map, above whatever is in front."""
        raise NotImplementedError

    def why_not_open(self, name: str) -> str:
        """Return in a clause why that one cannot be opened now; empty where it can."""
        return ""


class ModalScreen(Backdrop, _DismissOnce, screen.ModalScreen[T]):
    """A screen in a box over another one.

    One that asks has no letters but those of its answers: what is typed for a text field must never leave it.
    """

    BINDINGS: ClassVar[list[BindingType]] = [bind("back"), bind("help", "app.help")]

    def __init__(self) -> None:
        super().__init__()
        self._compositor = TightCompositor()


class Palette(Backdrop, _DismissOnce, CommandPalette):
    """Textual's command palette, whose search ends with it."""

    def _action_command_list(self, action: str) -> None:
        """Turn pages only where there are any."""
        if pages(self.query_one(CommandList)):
            super()._action_command_list(action)
