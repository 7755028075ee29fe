"""What is asked about a run: its tags, a note, another name."""

from collections.abc import Sequence

from textual.widget import Widget

from finetui.engine.protocol.config_checks import check_run_name
from finetui.engine.runs.notes import check_tag
from finetui.tui.screens.form import Form
from finetui.tui.widgets.form_rows import TextRow


class TagForm(Form[tuple[str, ...]]):
    """Asks for the tags of the runs called `names`, which all have `tags`."""

    TITLE_TEXT = "Tags"

    def __init__(self, names: Sequence[str], tags: Sequence[str]) -> None:
        super().__init__()
        self._names = names
        self._tags = tags

    def rows(self) -> list[Widget]:
        """Return the one row."""
        return [TextRow("tags", "Tags", " ".join(self._tags), "words separated by spaces: keep paper")]

    def read(self) -> tuple[str, ...]:
        """Return the tags. Raises `BadInput`."""
        return tuple(dict.fromkeys(check_tag(word) for word in self.text("tags").split()))

    def words(self, found: tuple[str, ...]) -> str:
        """Say what they do."""
        what = self._names[0] if len(self._names) == 1 else f"{len(self._names)} runs"
        return f"{what}: {' '.join(found) or 'no tags'}. Find them with the filter tag:{found[0] if found else 'keep'}"


class NoteForm(Form[str]):
    """Asks for the note of the run called `name`."""

    TITLE_TEXT = "Note"

    def __init__(self, name: str, note: str) -> None:
        super().__init__()
        self._run = name
        self._note = note

    def rows(self) -> list[Widget]:
        """Return the one row."""
        return [TextRow("note", "Note", self._note, "one line")]

    def read(self) -> str:
        """Return the note, which may be empty."""
        return self.text("note")

    def words(self, found: str) -> str:
        """Say where it is kept."""
        return f"saved with the run {self._run}" if found else f"removes the note of {self._run}"


class NameForm(Form[str]):
    """Asks for another name of the run called `name`."""

    TITLE_TEXT = "Rename"

    def __init__(self, name: str) -> None:
        super().__init__()
        self._run = name

    def rows(self) -> list[Widget]:
        """Return the one row."""
        return [TextRow("name", "Name", self._run)]

    def read(self) -> str:
        """Return the name. Raises `BadInput`."""
        name = self.text("name")
        check_run_name(name, "the new name")
        return name

    def words(self, found: str) -> str:
        """Say what it does."""
        return f"Renames {self._run}, also in the runs beside it that started from it."
