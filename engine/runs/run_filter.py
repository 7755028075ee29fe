"""Which runs are meant: a small language, `lr>0.01 model:resnet18 best>98% tag:keep -state:crashed "long words"`.

Terms with spaces between them must all hold. A term is a field, an operator and a value, or a word that the run's name,
data, model, tags or note contains. `:` means contains (of numbers: is), `=` is, `!=` is not; `<`, `<=`, `>` and `>=`
compare numbers and dates. `-` or `not` before a term turns it round. Quotes hold what has spaces or operators in it.
Upper and lower case are the same.
"""

import operator
import re
from collections.abc import Callable, Iterable, Iterator
from typing import Any, get_args

import msgspec

from finetui.engine.errors import BadInput
from finetui.engine.protocol.events import State
from finetui.engine.runs.run_fields import NUMERIC, RunField, Value, field_named, number, number_example
from finetui.engine.runs.summaries import RunSummary
from finetui.engine.text import meant

_COMPARE: dict[str, Callable[[Any, Any], bool]] = {
    "<": operator.lt,
    "<=": operator.le,
    ">": operator.gt,
    ">=": operator.ge,
}
_FIELD = re.compile(r"([A-Za-z][\w-]*)\s*(!=|>=|<=|[:=<>])\s*")
_NEGATION = re.compile(r"-(?=\S|$)|not(?=\s|$)", re.IGNORECASE)
_WORD = re.compile(r"[^\s\"']+")
_DATE = re.compile(r"\d{4}(-\d\d(-\d\d([T ]\d\d(:\d\d){0,2})?)?)?")
_STATES: tuple[str, ...] = get_args(State)
_CLOSE = 1e-9  # relative: of numbers that are the same


class Term(msgspec.Struct, frozen=True):
    """One condition; `field` None looks for `text` in all that a run is called by."""

    negated: bool
    field: RunField | None
    operator: str
    text: str
    number: float = 0.0

    def holds(self, run: RunSummary) -> bool:
        """Tell whether it is so of `run`; what a run does not have is like no value but an empty text."""
        if self.field is None:
            called = " ".join((run.name, run.data, run.model, *run.tags, run.note)).lower()
            return (self.text in called) != self.negated
        return self._compare(self.field, self.field.of(run)) != self.negated

    def _compare(self, field: RunField, value: Value) -> bool:
        if self.operator == "!=":
            return not self._equal(field, value)
        if self.operator == "=" or (self.operator == ":" and field.kind in NUMERIC):
            return self._equal(field, value)
        if self.operator == ":":
            return any(self.text in word.lower() for word in _words(value))
        compare = _COMPARE[self.operator]
        if isinstance(value, str):
            # As much of the date as was given: after 2026-11-27 is after that day.
            text = self.text.upper().replace(" ", "T")
            return bool(value) and compare(value[: len(text)], text)
        return isinstance(value, int | float) and compare(value, self.number)

    def _equal(self, field: RunField, value: Value) -> bool:
        if field.kind not in NUMERIC:
            return self.text in [word.lower() for word in _words(value)]
        if value is None or isinstance(value, str | tuple):
            return False
        # A share that is printed as 98.43% is 98.43%.
        close = 5e-5 if field.kind == "share" else _CLOSE * max(abs(value), abs(self.number))
        return abs(value - self.number) <= close


def _words(value: Value) -> tuple[str, ...]:
    return (value or ("",)) if isinstance(value, tuple) else (str(value or ""),)


def parse_filter(text: str) -> tuple[Term, ...]:
    """Return the terms of the filter `text`, none for an empty one. Raises `BadInput` that names the place."""
    return tuple(_Parser(text).terms())


def matching(found: Iterable[RunSummary], terms: Iterable[Term]) -> list[RunSummary]:
    """Return those of `found` of which all `terms` hold."""
    wanted = tuple(terms)
    return [run for run in found if all(term.holds(run) for term in wanted)]


class _Parser:
    def __init__(self, text: str) -> None:
        self._text = text
        self._at = 0

    def terms(self) -> Iterator[Term]:
        while self._skip_spaces():
            yield self._term()

    def _term(self) -> Term:
        negated = False
        while (sign := _NEGATION.match(self._text, self._at)) is not None:
            negated, self._at = not negated, sign.end()
            if not self._skip_spaces():
                raise self._error(sign.start(), f"nothing follows {sign[0]!r}")
        start = self._at
        named = _FIELD.match(self._text, start)
        if named is None:
            word = self._value()
            if word[:1] in tuple(":=<>!") and self._text[start] not in "\"'":
                raise self._error(start, f"a field name is missing before {word!r}")
            return Term(negated, None, ":", word.lower())
        field = field_named(named[1], self._place(start))
        self._at = named.end()
        if self._at == len(self._text):
            raise self._error(start, f"nothing follows {named[0].strip()!r}")
        return self._checked(Term(negated, field, named[2], self._value()), field, named.end())

    def _checked(self, term: Term, field: RunField, at: int) -> Term:
        if field.kind in NUMERIC:
            value = number(term.text, field.kind)
            if value is None:
                need = number_example(field.kind)
                raise self._error(at, f"{field.name} is compared with a number such as {need}, not with {term.text!r}")
            return msgspec.structs.replace(term, number=value)
        if term.operator in _COMPARE:
            if field.kind != "date":
                raise self._error(at, f"{field.name} is text: {term.operator} compares numbers; use : = or !=")
            if not _DATE.fullmatch(term.text.upper()):
                raise self._error(at, f"{field.name} is compared with a date such as 2026-11-27, not {term.text!r}")
        term = msgspec.structs.replace(term, text=term.text.lower())
        if field.name == "state" and not any(
            term.text in (state if term.operator == ":" else [state]) for state in _STATES
        ):
            raise self._error(at, f"there is no state {term.text!r}; {meant(term.text, _STATES)}")
        return term

    def _value(self) -> str:
        start = self._at
        if self._text[start] in "\"'":
            end = self._text.find(self._text[start], start + 1)
            if end < 0:
                raise self._error(start, "this quote is not closed")
            self._at = end + 1
            return self._text[start + 1 : end]
        word = _WORD.match(self._text, start)
        assert word is not None, "there is neither a space nor a quote here"
        self._at = word.end()
        return word[0]

    def _skip_spaces(self) -> bool:
        """Go on to what is no space; return whether there is any such."""
        while self._at < len(self._text) and self._text[self._at].isspace():
            self._at += 1
        return self._at < len(self._text)

    def _place(self, at: int) -> str:
        return f"the filter {self._text!r}, at character {at + 1}"

    def _error(self, at: int, problem: str) -> BadInput:
        return BadInput(f"{self._place(at)}: {problem}")
