"""Settings that a library keeps beside what it logs: Lightning's `hparams.yaml`, `args.yaml` of Ultralytics and timm.

These files are plain: a name and a scalar a line, tables and lists indented below their names. That much of YAML is
read here, by a page of code instead of a package. Whatever else a line holds is left out, above all objects of Python:
nothing is ever built from a file.
"""

import math
import re
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path

from finetui.engine.sources.source import Anew, Hparams, Item, Setting, Source

NAMES = ("hparams.yaml", "args.yaml")
_LARGEST = 1 << 20  # bytes
_MOST = 200  # settings
_MOST_LINES = 100  # of one text
_DEEPEST = 8  # tables in one another
_LINE = re.compile(
    r"""( *)(?:([^\s#'"\[\]{},&*!|>%@`?:-][^#'"]*?|-?\d[^#'":]*?)|'([^']*)'|"([^"\\]*)")\s*:(?:\s+(.*)|)$"""
)
_ITEM = re.compile(r"( *)-(?:\s+(.*)|)$")
_NUMBER = re.compile(r"[-+]?(\d[\d_]*\.?\d*|\.\d+)(e[-+]?\d+)?", re.IGNORECASE)
_WORDS: Mapping[str, Setting] = {
    **dict.fromkeys(("true", "yes", "on"), True), **dict.fromkeys(("false", "no", "off"), False),
    ".inf": math.inf, "+.inf": math.inf, "-.inf": -math.inf, ".nan": math.nan,
}  # fmt: skip
_ESCAPE = re.compile(r"\\(x[0-9a-fA-F]{2}|u[0-9a-fA-F]{4}|U[0-9a-fA-F]{8}|.)")
_ESCAPED = {"n": "\n", "t": "\t", "r": "\r", "0": "\0", "a": "\a", "b": "\b", "f": "\f", "v": "\v", "e": "\x1b",
            "N": "\x85", "_": "\xa0", "L": "\u2028", "P": "\u2029"}  # fmt: skip
_NONE = ("", "~", "null")
_LISTS = ("!!python/tuple", "!!python/list", "!!set", "!!seq")


def settings_in(text: str) -> dict[str, Setting]:
    """Return the settings in `text`: those of tables by their names with dots, scalars of a list in one text."""
    found: dict[str, Setting] = {}
    lists: dict[str, list[str]] = {}
    tables: list[tuple[int, str]] = []  # the indents and names, with their dots, of those that a line is in
    skipped = -1  # the indent of what is left out, with all below it
    for line in _whole_lines(text):
        indent = len(line) - len(line.lstrip(" "))
        item, told = _ITEM.fullmatch(line), _LINE.fullmatch(line)
        if skipped >= 0 and (indent > skipped or (item and indent == skipped)):
            continue
        skipped = -1
        while tables and (indent < tables[-1][0] or (indent == tables[-1][0] and item is None)):
            tables.pop()
        if item is not None:
            value = _scalar(item[2] or "")
            if tables and value is not None:
                lists.setdefault(tables[-1][1], []).append(str(value))
            if value is None:
                skipped = indent
                lists.pop(tables[-1][1] if tables else "", None)
        elif told is not None:
            name = next(part for part in told.groups()[1:4] if part is not None)
            name, value = (tables[-1][1] if tables else "") + name, _without_comment(told[5] or "")
            value = re.sub(r"^&\S+\s*", "", value)
            if value in ("", *_LISTS) and len(tables) < _DEEPEST:
                tables.append((indent, f"{name}."))
                continue
            skipped = indent
            told_value = _scalar(value)
            if told_value is not None:
                found[name] = told_value
        if len(found) + len(lists) >= _MOST:
            break
    joined = {name.removesuffix("."): ", ".join(values) for name, values in lists.items()}
    return {**found, **joined}


def _whole_lines(text: str) -> Iterator[str]:
    """Yield the lines of `text` that say something, those of a text over several lines as one."""
    waiting, count = "", 0
    for line in text.removeprefix("\ufeff").splitlines():
        if waiting:
            goes_on = waiting.endswith("\\")  # in a text with escapes: the end of this line is none of it
            waiting, count = (waiting[:-1] if goes_on else f"{waiting} ") + line.strip(), count + 1
        elif not line.strip() or line.lstrip()[0] in "#%" or line.rstrip() in ("---", "..."):
            continue
        else:
            waiting, count = line.rstrip(), 0
        if not _is_open(waiting) or count > _MOST_LINES:
            yield waiting
            waiting = ""


def _is_open(line: str) -> bool:
    """Whether the text in quotation marks that `line` ends with goes on in the next line."""
    value = re.sub(r"""^.*?(?:: |- )\s*(?=["'])""", "", line, count=1)
    mark = value[:1]
    if mark not in ("'", '"') or len(line) > _LARGEST:
        return False
    return re.match(r"""'(?:[^']|'')*'(?!')|"(?:[^"\\]|\\.)*\"""", value) is None


def _without_comment(value: str) -> str:
    if value[:1] in ("'", '"'):
        return value
    return re.sub(r"(^|\s)#.*$", "", value).strip()


def _scalar(text: str) -> Setting | None:
    """Return the number, word or text that a value is, the scalars of a list in one text; None: it is none of these."""
    text = _without_comment(text.strip())
    if text[:1] in ("'", '"'):
        return _quoted(text)
    if text[:1] == "[" and text[-1:] == "]":
        parts = [_scalar(part) for part in text[1:-1].split(",")]
        return ", ".join(map(str, parts)) if parts and None not in parts else None
    if text.lower() in _NONE or text[:1] in "!&*|>{[@`%?" or text[:2] == "- " or _LINE.fullmatch(text):
        return None
    if text.lower() in _WORDS:
        return _WORDS[text.lower()]
    if _NUMBER.fullmatch(text) and len(text) < 400:
        text = text.replace("_", "")  # anywhere: Python takes single ones between digits
        number = float(text)
        return int(text) if text.lstrip("+-").isdigit() else number
    return text


def _quoted(text: str) -> str | None:
    if text[0] == "'":
        found = re.match(r"'((?:[^']|'')*)'(?!')", text)
        return None if found is None else found[1].replace("''", "'")
    found = re.match(r'"((?:[^"\\]|\\.)*)"', text)
    try:
        return None if found is None else _ESCAPE.sub(_unescaped, found[1])
    except (ValueError, OverflowError):
        return None


def _unescaped(found: re.Match[str]) -> str:
    return chr(int(found[0][2:], 16)) if len(found[0]) > 2 else _ESCAPED.get(found[1], found[1])


class WithSettings:
    """The run that `source` tells, with the settings in the file beside it in `folder`, as it is by now."""

    def __init__(self, source: Source, folder: Path) -> None:
        self.kind = source.kind
        self.changed: Callable[[], float] = source.changed
        self.unread: Callable[[], int] = source.unread
        self._source = source
        self._folder = folder
        self._marks: tuple[tuple[int, int] | None, ...] = ()
        self._settings: dict[str, Setting] = {}

    def read(self) -> Iterator[Item]:
        """Yield what is new. Raises OSError."""
        before = self._settings
        self._look()
        if self._settings != before:
            yield Hparams(self._settings)
        for item in self._source.read():
            yield item
            if isinstance(item, Anew) and self._settings:
                yield Hparams(self._settings)

    def _look(self) -> None:
        marks = tuple(_mark(self._folder / name) for name in NAMES)
        if marks == self._marks:
            return
        found: dict[str, Setting] = {}
        for name, mark in zip(NAMES, marks, strict=True):
            if mark is not None and mark[1] <= _LARGEST:
                try:
                    found |= settings_in((self._folder / name).read_text("utf-8", "replace"))
                except OSError:  # somebody else's, or gone by now: the run is told without
                    continue
        self._marks, self._settings = marks, found


def _mark(path: Path) -> tuple[int, int] | None:
    try:
        about = path.stat()
    except OSError:
        return None
    return (about.st_mtime_ns, about.st_size) if path.is_file() else None
