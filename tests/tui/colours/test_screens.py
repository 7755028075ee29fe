"""Every screen, drawn for every kind of terminal: no colour but those of its palette."""

from collections.abc import AsyncIterator

import pytest
from canned_predictions import AnsweringLink
from pilot import DashboardPilot, open_app, picture
from rich.segment import Segment
from textual.widgets import Input

from finetui.tui.app.app import FinetuiApp
from finetui.tui.colours.palettes import marks, palette
from finetui.tui.screens.base import Palette
from finetui.tui.screens.train.screen import TrainScreen

# Keys that open something, and what is on the screen then; each begins at the Train screen.
VISITS = {
    "train": ((), "2 Acc"),
    "train, focus on a button": (("tab",), "2 Acc"),
    "errors": (("m",), "Misclassified"),
    "confusion matrix": (("m", "C"), "Confusion matrix"),
    "scores": (("m", "S"), "Scores"),
    "filter": (("m", "/"), "Filter"),
    "export": (("m", ">"), "Export"),
    "layers": (("g",), "Layers"),
    "log": (("o",), "Log"),
    "runs": (("r",), "Runs"),
    "checkpoints": (("c",), "heckpoint"),
    "finetune": (("f",), "inetun"),
    "help": (("?",), "its curves, its classes"),
    "command palette": (("ctrl+p",), "Detach"),
    "a search in it": (("ctrl+p", "e", "r"), "Errors"),
}


def segments(app: FinetuiApp) -> list[Segment]:
    """Return what the terminal is given."""
    return [piece for strip in app.screen._compositor.render_strips(app.size) for piece in strip]


def of_an_image(piece: Segment) -> bool:
    return set(piece.text) <= {"▀", " "} and piece.style is not None and piece.style.color is not None


async def visit(pilot: DashboardPilot, keys: tuple[str, ...], shows: str) -> None:
    await pilot.settle()
    for key in keys:  # a key is for what the one before it opened, which may have to be read first
        await pilot.press(key)
        await pilot.settle()
    assert shows in picture(pilot.app)


async def visits(pilot: DashboardPilot) -> AsyncIterator[str]:
    """Go everywhere, and from each place back to the Train screen; give what each is called once it is drawn."""
    for where, (keys, shows) in VISITS.items():
        pilot.app.notify("a toast", title="its title", severity="warning")
        await visit(pilot, keys, shows)
        yield where
        while not isinstance(pilot.app.screen, TrainScreen):
            await pilot.press("escape")


def strange(app: FinetuiApp, depth: str, dark: bool) -> set[tuple[str, str]]:
    """Return which colours are drawn that the palette does not have, and for what."""
    allowed = {colour for colour in palette(depth, dark=dark).values() if len(colour) == 7}
    return {
        (colour.triplet.hex, piece.text.strip())
        for piece in segments(app)
        if piece.style is not None and not of_an_image(piece)
        for colour in (piece.style.color, piece.style.bgcolor)
        if colour is not None and colour.triplet is not None and colour.triplet.hex not in allowed
    }


@pytest.mark.parametrize("depth", ["256", "16"])
async def test_only_colours_of_the_palette_are_drawn(link: AnsweringLink, depth: str) -> None:
    app = FinetuiApp(link, depth=depth, image_mode="blocks" if depth == "256" else "ascii")
    async with open_app(app, size=(120, 40)) as pilot:
        dark = depth == "256"  # the themes take turns: what is opened in one of them here is in the other by 16 colours
        app.theme = "finetui-dark" if dark else "finetui-light"
        async for where in visits(pilot):
            assert not strange(app, depth, dark), (where, dark)
            dark = not dark
            app.theme = "finetui-dark" if dark else "finetui-light"
            if isinstance(app.screen, Palette):  # its lines are made once, with their colours
                await pilot.press("escape")
                await visit(pilot, *VISITS[where])
            await pilot.drawn()
            assert not strange(app, depth, dark), (where, dark)


async def test_without_colours_attributes_take_their_place(link: AnsweringLink) -> None:
    app = FinetuiApp(link, depth="none", image_mode="ascii")
    async with open_app(app, size=(120, 40)) as pilot:
        async for _ in visits(pilot):
            pieces = segments(app)
            assert all(piece.style.color is None or piece.style.color.is_default for piece in pieces if piece.style)
            assert all(piece.style.bgcolor is None or piece.style.bgcolor.is_default for piece in pieces if piece.style)
        await pilot.press("tab")
        reverse = "".join(piece.text for piece in segments(app) if piece.style and piece.style.reverse)
        assert reverse.strip()  # where the focus is
        underlined = "".join(piece.text for piece in segments(app) if piece.style and piece.style.underline)
        assert "Evaluate" in underlined or "Resume" in underlined  # buttons that can be pressed
    assert len(marks()) > 10


async def test_others_themes_have_all_that_is_drawn_and_come_after_the_present_one(link: AnsweringLink) -> None:
    app = FinetuiApp(link)
    async with open_app(app, size=(120, 40)) as pilot:
        names = list(app.available_themes)
        assert names[:2] == ["finetui-dark", "finetui-light"]
        assert len(names) > 10
        assert not {name for name in names if app.available_themes[name].ansi}
        for name in names:
            app.theme = name
            await pilot.drawn()
            assert "2 Acc" in picture(app)
        app.theme = "nord"
        app.search_themes()
        await pilot.settle()
        shown = [line for line in picture(app).splitlines() if "finetui-" in line or "nord" in line]
        assert [line.split()[0].strip("│ ") for line in shown][:3] == ["nord", "finetui-dark", "finetui-light"]
        assert app.screen.query_one(Input)


async def test_with_few_colours_only_the_themes_made_for_them_are_offered(link: AnsweringLink) -> None:
    for depth in ("256", "16", "none"):
        app = FinetuiApp(link, depth=depth)
        assert list(app.available_themes) == ["finetui-dark", "finetui-light"]
