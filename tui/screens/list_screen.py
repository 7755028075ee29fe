"""A list in a box over the screen, of which one line is chosen."""

from collections.abc import Sequence
from pathlib import Path
from typing import ClassVar, Generic, TypeVar

from textual import work
from textual.app import ComposeResult
from textual.binding import BindingType
from textual.containers import Vertical
from textual.content import Content
from textual.widget import Widget
from textual.widgets import Static
from textual.widgets.option_list import Option
from textual.worker import get_current_worker

from finetui.engine.errors import BadInput
from finetui.engine.runs.summaries import RunSummary, summarise_runs
from finetui.tui.keys import bind
from finetui.tui.screens.base import ModalScreen
from finetui.tui.widgets.option_list import OptionList

T = TypeVar("T")


class ListScreen(ModalScreen[T | None], Generic[T]):
    """Shows lines below a heading: a subclass gives them to `fill`. Leaving dismisses it with None."""

    CSS_PATH = Path(__file__).with_name("list_screen.tcss")  # a name alone would be looked up beside the subclass
    INTRODUCTION = "A list. Enter chooses the line under the cursor; Escape cancels."
    BINDINGS: ClassVar[list[BindingType]] = [bind("back", "leave"), bind("close", "leave", show=False)]

    def compose(self) -> ComposeResult:
        """Title, heading and list, and what is below."""
        with Vertical(id="box"):
            yield Static(Content.styled(self.TITLE_TEXT, "bold $accent"), id="title")
            yield Static(Content("Reading…"), id="text")
            yield OptionList(id="list", compact=True)
            yield from self.below()

    def below(self) -> Sequence[Widget]:
        """Return what is below the list."""
        return ()

    def fill(self, heading: str, lines: Sequence[Content]) -> None:
        """Show `lines` below `heading`, and begin at the first of them."""
        self.query_one("#text", Static).update(Content.styled(heading, "$muted"))
        options = self.query_one(OptionList)
        options.add_options([Option(line) for line in lines])
        if lines:
            options.highlighted = 0
        options.focus()

    def on_option_list_option_selected(self, message: OptionList.OptionSelected) -> None:
        """Choose the line."""
        message.stop()
        self.choose(message.option_index)

    def choose(self, index: int) -> None:
        """Do what is done with the line number `index`."""
        raise NotImplementedError

    def action_leave(self) -> None:
        """Choose none."""
        self.dismiss(None)


class RunListScreen(ListScreen[T]):
    """Lists what is found in the runs of `runs_dir`; is dismissed with what belongs to the chosen line."""

    HEADING: ClassVar[str] = ""
    NONE_FOUND: ClassVar[str] = ""

    def __init__(self, runs_dir: Path) -> None:
        super().__init__()
        self._runs_dir = runs_dir
        self._found: list[T] = []

    def listed(self, runs: list[RunSummary]) -> list[tuple[Content, T]]:
        """Return the lines for `runs`, each with what the screen is dismissed with; in a thread. Raises `BadInput`."""
        raise NotImplementedError

    def on_mount(self) -> None:
        """Read the journals, which may be long, in a thread."""
        self._read()

    @work(thread=True, exclusive=True)
    def _read(self) -> None:
        found: list[tuple[Content, T]] = []
        try:
            found = self.listed(summarise_runs(self._runs_dir))
            heading = self.HEADING if found else self.NONE_FOUND
        except BadInput as error:
            heading = str(error)
        if not get_current_worker().is_cancelled:
            self.app.call_from_thread(self._show, heading, found)

    def _show(self, heading: str, found: list[tuple[Content, T]]) -> None:
        if self.stands:
            self._found = [what for _, what in found]
            self.fill(heading, [line for line, _ in found])

    def choose(self, index: int) -> None:
        """Be done with that line."""
        self.dismiss(self._found[index])
