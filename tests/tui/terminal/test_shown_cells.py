"""The terminal is sent the cells that differ from what it shows, and comes to show the same as if it were sent all."""

import random
from collections.abc import Iterator, Sequence

import pyte
import pytest
from rich.cells import cell_len
from rich.color import ColorSystem
from rich.console import Console
from rich.segment import Segment
from rich.style import Style
from sent import seen_cells
from textual._compositor import ChopsUpdate, LayoutUpdate
from textual.geometry import Region
from textual.strip import Strip

from finetui.tui.terminal.shown_cells import ShownCells

WIDTH, HEIGHT = 30, 4
CONSOLE = Console(color_system="truecolor", force_terminal=True)
# What is in the middle of one has the ends of its neighbours: nothing, one colour, or all of an attribute changes.
STYLES = [
    None,
    Style.parse("#e0e0e0 on #121212"),
    Style.parse("bold #e0e0e0 on #121212"),
    Style.parse("dim #e0e0e0 on #121212"),
    Style.parse("bold dim #ff8800 on #121212"),
    Style.parse("underline #ff8800 on #121212"),
    Style.parse("reverse #ff8800 on #202020"),
    Style.parse("italic strike on #202020"),
    Style.parse("#00ff00"),
]
TEXTS = ["   ", " a ", "12.5%", "⣀⠤⠒", "─", "●", "日本", "x", "  b  "]


def row(*segments: tuple[str, Style | None]) -> Strip:
    """Return a row of the screen, blank where `segments` end."""
    return Strip([Segment(text, style) for text, style in segments]).extend_cell_length(WIDTH, STYLES[1])


def whole(rows: Sequence[Strip]) -> LayoutUpdate:
    """Return an update of the whole screen."""
    return LayoutUpdate([[strip] for strip in rows], Region(0, 0, WIDTH, len(rows)))


def part(rows: Sequence[Strip], *spans: tuple[int, int, int]) -> ChopsUpdate:
    """Return an update of `spans`, each a row, its first column and the one after its last."""
    return ChopsUpdate([{0: strip} for strip in rows], list(spans), [[WIDTH]] * len(rows))


def frames(seed: int) -> Iterator[list[Strip]]:
    """Yield screens of which each has rows of the one before, parts of such, and others."""
    chance = random.Random(seed)
    rows: list[list[tuple[str, Style | None]]] = [[] for _ in range(HEIGHT)]
    while True:
        for y in range(HEIGHT):
            if chance.random() < 0.5:
                kept = rows[y][: chance.randrange(6)]
                while sum(cell_len(text) for text, _ in kept) < WIDTH - 12:
                    kept.append((chance.choice(TEXTS), chance.choice(STYLES)))
                rows[y] = kept
        yield [row(*one) for one in rows]


@pytest.mark.parametrize("seed", range(5))
def test_the_terminal_shows_the_same_as_if_it_were_sent_all(seed: int) -> None:
    shown, other = ShownCells(), pyte.Screen(WIDTH, HEIGHT)
    screen = pyte.Screen(WIDTH, HEIGHT)
    feed, feed_other = pyte.Stream(screen).feed, pyte.Stream(other).feed
    sent = all_sent = 0
    for number, rows in zip(range(60), frames(seed), strict=False):
        everything = whole(rows).render_segments(CONSOLE)
        feed_other(everything)
        parts = part(rows, *((y, 0, WIDTH) for y in range(HEIGHT)))
        text = shown.render(parts if number else whole(rows), CONSOLE)
        feed(text)
        assert seen_cells(screen) == seen_cells(other), number
        sent, all_sent = sent + len(text), all_sent + len(everything)
    assert sent < all_sent / 2


def test_a_changed_digit_is_all_that_is_sent() -> None:
    shown = ShownCells()
    before, after = (row(("a" * 10 + digit + "b" * 10, STYLES[1])) for digit in "12")
    shown.render(whole([before]), CONSOLE)
    sent = shown.render(part([after], (0, 0, WIDTH)), CONSOLE)
    assert sent == "\x1b[1;11H\x1b[38;2;224;224;224;48;2;18;18;18m2\x1b[0m"
    assert shown.render(part([after], (0, 0, WIDTH)), CONSOLE) == ""


def test_what_did_not_change_is_written_again_only_where_that_is_shorter_than_moving_on() -> None:
    shown = ShownCells()
    shown.render(whole([row(("1a2" + "b" * 9 + "3", None))]), CONSOLE)
    sent = shown.render(part([row(("4a5" + "b" * 9 + "6", None))], (0, 0, WIDTH)), CONSOLE)
    assert sent == "\x1b[1;1H4a5\x1b[9C6"


def test_a_colour_is_sent_once_for_all_that_has_it() -> None:
    shown, style = ShownCells(), STYLES[1]
    rows = [row(("-" * WIDTH, style)) for _ in range(HEIGHT)]
    shown.render(whole(rows), CONSOLE)
    changed = [row(("+" + "-" * 20 + "+", style)) for _ in range(HEIGHT)]
    sent = shown.render(part(changed, *((y, 0, 22) for y in range(HEIGHT))), CONSOLE)
    assert sent.count("\x1b[38;2;224;224;224") == 1
    assert sent.count("+") == 2 * HEIGHT


def test_a_blank_of_another_colour_looks_the_same() -> None:
    shown = ShownCells()
    shown.render(whole([row(("   ", Style.parse("red on black")))]), CONSOLE)
    assert shown.render(part([row(("   ", Style.parse("bold green on black")))], (0, 0, 3)), CONSOLE) == ""
    assert shown.render(part([row(("   ", Style.parse("underline green on black")))], (0, 0, 3)), CONSOLE) != ""


def test_a_whole_screen_is_sent_whatever_is_known() -> None:
    shown, rows = ShownCells(), [row(("abc", None))]
    assert "abc" in shown.render(whole(rows), CONSOLE)
    assert "abc" in shown.render(whole(rows), CONSOLE)


def test_a_link_is_opened_and_closed() -> None:
    shown = ShownCells()
    shown.render(whole([row(("here", None))]), CONSOLE)
    style = Style(link="https://example.org")
    sent = shown.render(part([row(("there", style))], (0, 0, WIDTH)), CONSOLE)
    assert f"\x1b]8;id={style.link_id};https://example.org\x1b\\" in sent
    assert sent.endswith("\x1b]8;;\x1b\\")


@pytest.mark.parametrize("system", [ColorSystem.EIGHT_BIT, ColorSystem.STANDARD])
def test_colours_are_those_that_the_terminal_has(system: ColorSystem) -> None:
    console = Console(color_system={3: "256", 2: "256", 1: "standard"}[system.value], force_terminal=True)
    seen = []
    style = Style(color="#ff8800", bgcolor="#121212", bold=True)  # not of the cache: it keeps what it was rendered as
    rows = [Strip([Segment("abc", style)])]
    for sent in (ShownCells().render(whole(rows), console), whole(rows).render_segments(console)):
        screen = pyte.Screen(WIDTH, HEIGHT)
        pyte.Stream(screen).feed(sent)
        seen.append(seen_cells(screen))
    assert seen[0] == seen[1]
    assert "38;2" not in sent


class Told(Strip):
    """Cells that count how often they are sent."""

    count = 0

    def crop(self, start: int, end: int | None = None) -> Strip:
        return self

    def render(self, console: Console) -> str:
        Told.count += 1
        return super().render(console)


def test_what_something_else_draws_upon_is_sent_each_time_and_so_is_what_comes_after_it() -> None:
    """Sixels lie upon cells: writing these wipes them out, be they what they were before or not."""
    shown, Told.count = ShownCells(), 0
    told = Told([Segment(" " * WIDTH, STYLES[1])], WIDTH)
    shown.render(whole([told]), CONSOLE)
    for _ in range(2):
        assert " " * WIDTH in shown.render(part([told], (0, 0, WIDTH)), CONSOLE)
    assert Told.count == 3
    assert " " * WIDTH in shown.render(part([row()], (0, 0, WIDTH)), CONSOLE)
    assert shown.render(part([row()], (0, 0, WIDTH)), CONSOLE) == ""
