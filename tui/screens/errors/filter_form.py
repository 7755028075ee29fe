"""The form that says which predictions are listed."""

import msgspec
from textual.widget import Widget

from finetui.engine.errors import BadInput
from finetui.engine.predictions.criteria import CHANGE_WORDS, LABEL_FILTERS, SHOWS, SORTS, Selection
from finetui.tui.screens.form import Form
from finetui.tui.state.class_names import class_number
from finetui.tui.widgets.form_rows import ChoiceRow, TextRow

_ANY, _ONLY = "any", "only these"
_CHANGES = {"": "any", **CHANGE_WORDS}


class FilterForm(Form[Selection]):
    """Asks for another selection than `selection`."""

    TITLE_TEXT = "Filter images"

    def __init__(self, selection: Selection, classes: tuple[str, ...], *, has_files: bool, can_compare: bool) -> None:
        super().__init__()
        self._selection = selection
        self._labels = classes
        self._has_files = has_files
        self._can_compare = can_compare

    def rows(self) -> list[Widget]:
        """Return a row for everything that can be asked for here."""
        now, names = self._selection, self._labels
        rows: list[Widget] = [
            ChoiceRow("show", "Show", SHOWS, now.show),
            TextRow("true", "True class", "" if now.true is None else names[now.true], "any: name or number"),
            TextRow("predicted", "Predicted", "" if now.predicted is None else names[now.predicted], "any"),
            TextRow("low", "Confidence ≥", f"{100 * now.low:g}"),
            TextRow("high", "Confidence ≤", f"{100 * now.high:g}"),
        ]
        if self._has_files:
            rows.append(TextRow("text", "Path contains", now.text, "any"))
        rows += [
            ChoiceRow("label_errors", "Label errors", (_ANY, *LABEL_FILTERS), now.label_errors or _ANY),
            ChoiceRow("duplicates", "In training", (_ANY, _ONLY), _ONLY if now.duplicates else _ANY),
            ChoiceRow("marked", "Marked", (_ANY, _ONLY), _ONLY if now.marked else _ANY),
        ]
        if self._can_compare:
            rows.append(ChoiceRow("change", "Changed", tuple(_CHANGES.values()), _CHANGES[now.change]))
        rows += [
            ChoiceRow("sort", "Order by", SORTS, now.sort),
            ChoiceRow("reverse", "Reverse", ("no", "yes"), "yes" if now.reverse else "no"),
        ]
        return rows

    def read(self) -> Selection:
        """Return the selection that was asked for. Raises `BadInput`."""
        low, high = self._percent("low", 0.0), self._percent("high", 100.0)
        if low > high:
            raise BadInput(f"confidence: the minimum {low:g}% is above the maximum {high:g}%")
        change = next((key for key, words in _CHANGES.items() if words == self._change()), "")
        return msgspec.convert(
            {
                "show": self.choice("show"),
                "true": class_number(self.text("true") or None, self._labels, "true class"),
                "predicted": class_number(self.text("predicted") or None, self._labels, "predicted"),
                "low": low / 100,
                "high": high / 100,
                "text": self.text("text") if self._has_files else "",
                "label_errors": None if (by := self.choice("label_errors")) == _ANY else by,
                "duplicates": self.choice("duplicates") == _ONLY,
                "marked": self.choice("marked") == _ONLY,
                "change": change,
                "sort": self.choice("sort"),
                "reverse": self.choice("reverse") == "yes",
            },
            Selection,
        )

    def _change(self) -> str:
        return self.choice("change") if self._can_compare else _CHANGES[""]

    def _percent(self, name: str, empty: float) -> float:
        typed = self.text(name)
        try:
            value = float(typed) if typed else empty
        except ValueError:
            raise BadInput(f"confidence: {typed} is not a percentage") from None
        if not 0 <= value <= 100:
            raise BadInput(f"confidence: {value:g}% is not between 0% and 100%")
        return value
