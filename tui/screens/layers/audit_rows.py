"""The audit of a module's tensors as lines: what is wrong in red, each with its reason."""

from collections.abc import Sequence

from rich.cells import cell_len
from textual.content import Content

from finetui.engine.protocol.audit import Audit, AuditedTensor
from finetui.engine.text import clean
from finetui.tui.state.audited import HEADING, cells, reasons_by_name, within
from finetui.tui.widgets.lines_view import LinesView

_ENOUGH_OF_NAME, _FEWEST_OPTIMIZER, _GAP = 24, 10, 2


class AuditRows(LinesView[Content]):
    """The lines; `fill` says of what."""

    def __init__(self, *, id: str | None = None) -> None:  # noqa: A002
        super().__init__(id=id)
        self._audit: Audit | None = None
        self._path = ""

    def fill(self, audit: Audit, path: str) -> None:
        """Show what `audit` says of the module at `path`."""
        if (audit, path) != (self._audit, self._path):
            self._audit, self._path = audit, path
            self.scroll_home(animate=False)
        self._lay_out()

    def on_resize(self) -> None:
        """Lay the lines out for another width."""
        super().on_resize()
        self._lay_out()

    def _lay_out(self) -> None:
        if self._audit is not None and self.size.width:
            # Whether there is a scrollbar beside them depends on how many they are.
            self.show(lines(self._audit, self._path, self.size.width - 1))

    def content_of(self, row: Content, width: int) -> Content:
        """Return the line as it was laid out."""
        return row


def lines(audit: Audit, path: str, width: int) -> list[Content]:
    """Return the audit of the module at `path` in lines for `width` cells: what is wrong comes first, and above why."""
    reasons = reasons_by_name(audit)
    tensors = within(audit, path)
    named = {tensor.name for tensor in audit.tensors}
    # Of the training as a whole, and of modules, dropout say; of those that the chosen one is in as well.
    around = [name for name in reasons if name not in named and _touches(name, path)]
    found: list[Content] = []
    for name in around:
        found += _reason(f"{clean(name, 200) or 'training'}: {reasons[name][0]}", reasons[name][1], width)
    if not tensors:
        return [*found, Content.styled("no parameters or buffers", "$muted")]
    rows = [HEADING, *map(cells, tensors)]
    widths = _widths(rows)
    if path and sum(widths) + _GAP * (len(HEADING) - 1) > width:  # the pane says which module it is about
        rows = [HEADING, *((row[0].removeprefix(f"{path}."), *row[1:]) for row in rows[1:])]
        widths = _widths(rows)
    spare = width - sum(widths[1:-1]) - _GAP * (len(HEADING) - 1)
    # Where there is no room for both, more than this of a name matters less than the optimizer behind it.
    widths[0] = min(widths[0], max(spare - widths[-1], min(_ENOUGH_OF_NAME, spare - _FEWEST_OPTIMIZER), 1))
    found.append(Content.styled(_line(HEADING, widths), "$muted bold"))
    said = [reasons.get(tensor.name, ("", False)) for tensor in tensors]
    for tensor, row, (reason, wrong), then in zip(tensors, rows[1:], said, [*said[1:], None], strict=True):
        found.append(Content.styled(_line(row, widths), "$error" if wrong else _style(tensor)))
        # Of several in a row with the same reason, below the last.
        found += _reason(reason, wrong, width) if reason and (reason, wrong) != then else []
    return found


def _touches(name: str, path: str) -> bool:
    return not name or not path or f"{name}.".startswith(f"{path}.") or f"{path}.".startswith(f"{name}.")


def _style(tensor: AuditedTensor) -> str:
    return "$frozen" if tensor.frozen else ""


def _widths(rows: Sequence[tuple[str, ...]]) -> list[int]:
    return [max(cell_len(row[place]) for row in rows) for place in range(len(HEADING))]


def _line(row: tuple[str, ...], widths: list[int]) -> str:
    name = row[0]
    if cell_len(name) > widths[0]:
        name = f"…{name[1 - widths[0] :]}"  # its end tells more than its beginning
    padded = [name, *row[1:]]
    filled = (cell + " " * (size - cell_len(cell)) for cell, size in zip(padded, widths, strict=True))
    return (" " * _GAP).join(filled).rstrip()


def _reason(reason: str, wrong: bool, width: int) -> list[Content]:
    """Return the reason, in as many lines as it takes."""
    sign, style = ("✗", "$error bold") if wrong else ("·", "$warning")
    wrapped: list[str] = []
    for word in clean(reason, 1000).split():
        if wrapped and cell_len(wrapped[-1]) + 1 + cell_len(word) <= width - 4:
            wrapped[-1] += f" {word}"
        else:
            wrapped.append(word)
    return [Content.styled(f"  {sign if not at else ' '} {line}", style) for at, line in enumerate(wrapped)]
