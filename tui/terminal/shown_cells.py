"""Sending the terminal no more than the cells that differ from what it shows, in as few bytes as that takes.

Textual sends each changed region whole, and for each segment of text both of its colours, which are 19 bytes each in
truecolor: of what a training sent to a terminal, three quarters were colours and half of the rest cells that stayed as
they were. So what each cell shows is remembered here, as curses does it; what is sent are the cells that differ, a
colour only where it is another one than before, and where cells in between stay as they are the shorter of writing
them again and moving on.
"""

from collections.abc import Iterable, Iterator
from functools import lru_cache
from typing import NamedTuple

from rich.cells import cell_len
from rich.color import ColorSystem
from rich.console import Console
from rich.segment import Segment
from rich.style import Style
from textual._compositor import ChopsUpdate, CompositorUpdate, LayoutUpdate
from textual.strip import Strip

# What ends each attribute that a style turns on; bold and dim, and some others, end together.
_ENDS = {"1": "22", "2": "22", "3": "23", "4": "24", "21": "24", "5": "25", "6": "25", "7": "27", "8": "28", "9": "29"}
_ENDS |= {"51": "54", "52": "54", "53": "55"}
_SEEN_ON_BLANKS = frozenset({"4", "5", "6", "7", "9", "21", "51", "52", "53"})
_NONE: frozenset[str] = frozenset()


class Pen(NamedTuple):
    """How text looks: parameters of the sequence Select Graphic Rendition, and the target of a link."""

    attributes: frozenset[str] = _NONE
    colour: str = ""
    ground: str = ""
    link: str = ""

    @property
    def on_blanks(self) -> "Pen":
        """What of it can be seen where there is no character."""
        return self if self.attributes & _SEEN_ON_BLANKS else Pen(_NONE, "", self.ground, self.link)


_PLAIN = Pen()


@lru_cache(maxsize=1024)
def _pen(style: Style | None, system: ColorSystem) -> Pen:
    if style is None:
        return _PLAIN
    marked = style.without_color.update_link(None).render("x", color_system=system)
    attributes = frozenset(marked[2 : marked.index("m")].split(";")) if marked.startswith("\x1b[") else _NONE
    colour, ground = (
        ";".join(one.downgrade(system).get_ansi_codes(foreground=foreground)) if one is not None else ""
        for one, foreground in ((style.color, True), (style.bgcolor, False))
    )
    return Pen(attributes, colour, ground, f"id={style.link_id};{style.link}" if style.link else "")


@lru_cache(maxsize=1024)
def _change(old: Pen, new: Pen) -> str:
    """Return the shortest sequence that makes what is written next look like `new`, where it looked like `old`."""
    ended = {_ENDS[one] for one in old.attributes - new.attributes}
    begun = {one for one in new.attributes if one not in old.attributes or _ENDS[one] in ended}
    codes = [*sorted(ended), *sorted(begun)]
    if new.colour != old.colour:
        codes.append(new.colour or "39")
    if new.ground != old.ground:
        codes.append(new.ground or "49")
    anew = ["0", *sorted(new.attributes), *filter(None, (new.colour, new.ground))]
    shortest = min(";".join(codes), ";".join(anew), key=len)
    link = f"\x1b]8;{new.link or ';'}\x1b\\" if new.link != old.link else ""
    return link + (f"\x1b[{shortest}m" if shortest else "")


@lru_cache(maxsize=1024)
def _is_narrow(character: str) -> bool:
    """Whether `character` fills one cell by itself, whatever stands beside it."""
    return cell_len(character) == 1


def _cells(text: str) -> list[str]:
    """Return what each cell of `text` shows; all is in the first where it is not known which is where."""
    if (text.isascii() and text.isprintable()) or all(map(_is_narrow, text)):
        return list(text)
    return [text, *[""] * (cell_len(text) - 1)]


class _Writer:
    """Puts together what the terminal is sent, from a cursor somewhere and no colours to no colours."""

    def __init__(self) -> None:
        self._parts: list[str] = []
        self._pen = _PLAIN
        self._at: tuple[int, int] | None = None  # row and column of the cursor, where that is known

    def write(self, text: str, pen: Pen, columns: int | None) -> None:
        """Write `text`, which fills so many columns: None if terminals may disagree on that."""
        if self._pen is not pen:
            if text.isspace():  # its own colour is not seen
                blank = pen.on_blanks
                pen = blank if blank is pen else Pen(self._pen.attributes - _SEEN_ON_BLANKS, self._pen.colour, *pen[2:])
            self._parts.append(_change(self._pen, pen))
            self._pen = pen
        self._parts.append(text)
        if columns is None:
            self._at = None
        elif self._at is not None:
            self._at = self._at[0], self._at[1] + columns

    def move(self, y: int, x: int, row: "_Row | None" = None) -> None:
        """Go to a cell, perhaps by writing those before it in its `row` anew."""
        if self._at == (y, x):
            return
        if self._at is not None and self._at[0] == y and self._at[1] < x:
            onward = f"\x1b[{x - self._at[1]}C" if x - self._at[1] > 1 else "\x1b[C"
            between = row.text(self._at[1], x, self._pen, most=len(onward)) if row is not None else None
            self._parts.append(onward if between is None else between)
        else:
            self._parts.append(f"\x1b[{y + 1};{x + 1}H")
        self._at = y, x

    def pass_on(self, sequence: str) -> None:
        """Write what moves the cursor nobody knows where, and leaves no colours."""
        self._parts += (_change(self._pen, _PLAIN), sequence)
        self._pen, self._at = _PLAIN, None

    def sent(self) -> str:
        """Return what was put together."""
        return "".join((*self._parts, _change(self._pen, _PLAIN)))


class _Row:
    """What the cells of a row show; nobody knows it of those without a pen."""

    def __init__(self) -> None:
        self.characters: list[str] = []
        self.pens: list[Pen | None] = []

    def put(self, x: int, characters: list[str], pen: Pen | None) -> None:
        """Note what the cells from `x` on show now."""
        missing = x + len(characters) - len(self.pens)
        if missing > 0:
            self.characters += [""] * missing
            self.pens += [None] * missing
        self.characters[x : x + len(characters)] = characters
        self.pens[x : x + len(characters)] = [pen] * len(characters)

    def changed(self, x: int, characters: list[str], pen: Pen) -> list[int]:
        """Return which of the cells from `x` on would look other than they do."""
        end = x + len(characters)
        shown, pens = self.characters[x:end], self.pens[x:end]
        if shown == characters and pens == [pen] * len(characters):
            return []
        known = len(pens)
        blank = pen.on_blanks
        return [
            at
            for at, character in enumerate(characters)
            if at >= known
            or shown[at] != character
            or (pens[at] != pen and not (character == " " and _looks_blank(pens[at], blank)))
        ]

    def text(self, start: int, end: int, pen: Pen, most: int) -> str | None:
        """Return what writes the cells from `start` to `end` with `pen` in at most `most` bytes; None if nothing."""
        if end - start > most:
            return None
        text = "".join(self.characters[start:end])
        blank = pen.on_blanks
        fits = len(text) == end - start and all(
            one == pen or (character == " " and _looks_blank(one, blank))
            for character, one in zip(text, self.pens[start:end], strict=True)
        )
        return text if fits and len(text.encode()) <= most else None


def _looks_blank(pen: Pen | None, blank: Pen) -> bool:
    return pen is not None and pen.on_blanks == blank


class ShownCells:
    """Knows what a terminal shows, as long as all that changes it comes from here."""

    def __init__(self) -> None:
        self._rows: dict[int, _Row | list[Strip]] = {}  # strips: those of a row that nothing has changed yet

    def render(self, update: CompositorUpdate, console: Console) -> str:
        """Return what makes the terminal show `update` as well; a whole screen is sent as if nothing were known."""
        system = console._color_system or ColorSystem.TRUECOLOR
        writer = _Writer()
        if isinstance(update, LayoutUpdate):
            self._rows = {}
            for y, strips in enumerate(update.strips, update.region.y):
                self._rows[y] = row = list(strips)
                _write_row(writer, y, update.region.x, row, console, system)
        elif isinstance(update, ChopsUpdate):
            for y, x, strip in _changed_strips(update):
                self._write_changes(writer, y, x, strip, console, system)
        else:
            return update.render_segments(console)
        return writer.sent()

    def _row(self, y: int, system: ColorSystem) -> _Row:
        known = self._rows.get(y)
        if isinstance(known, _Row):
            return known
        self._rows[y] = row = _Row()
        x = 0
        for strip in known or ():
            for segment in strip:
                cells = _cells(segment.text)
                row.put(x, cells, _pen(segment.style, system) if _is_text(strip) else None)
                x += len(cells)
        return row

    def _write_changes(
        self, writer: _Writer, y: int, x: int, strip: Strip, console: Console, system: ColorSystem
    ) -> None:
        row = self._row(y, system)
        if not _is_text(strip):
            writer.move(y, x)
            writer.pass_on(strip.render(console))
            row.put(x, [""] * strip.cell_length, None)
            return
        for segment in strip:
            cells, pen = _cells(segment.text), _pen(segment.style, system)
            changed = row.changed(x, cells, pen)
            if changed:
                row.put(x, cells, pen)
                if len(cells) != len(segment.text) or "" in cells:
                    writer.move(y, x, row)
                    writer.write(segment.text, pen, None)
                else:
                    for at in changed:
                        writer.move(y, x + at, row)
                        writer.write(cells[at], pen, 1)
            x += len(cells)


def _is_text(strip: Strip) -> bool:
    """Whether the strip is nothing but text: one of another class has something to do when it is rendered."""
    return type(strip) is Strip


def _changed_strips(update: ChopsUpdate) -> Iterator[tuple[int, int, Strip]]:
    """Yield row, column and strip of what may have changed, cropped on both sides."""
    for y, x1, x2 in update.spans:
        for end, (x, strip) in zip(update.chop_ends[y], update.chops[y].items(), strict=False):
            if strip is not None and x < x2 and end > x1:
                first = max(x, x1)
                cropped = strip.crop(first - x, min(end, x2) - x)
                if cropped.cell_length:
                    yield y, first, cropped


def _write_row(writer: _Writer, y: int, x: int, strips: Iterable[Strip], console: Console, system: ColorSystem) -> None:
    """Write a whole row, whatever the terminal shows there."""
    for strip in strips:
        writer.move(y, x)
        if _is_text(strip):
            segment: Segment
            for segment in strip:
                writer.write(segment.text, _pen(segment.style, system), len(_cells(segment.text)))
        else:
            writer.pass_on(strip.render(console))
        x += strip.cell_length


class CellsUpdate(CompositorUpdate):
    """An update that is sent as what it changes of `shown`."""

    def __init__(self, update: CompositorUpdate, shown: ShownCells) -> None:
        self._update = update
        self._shown = shown

    def render_segments(self, console: Console) -> str:
        """Return the escape sequences and text that update the terminal."""
        return self._shown.render(self._update, console)
