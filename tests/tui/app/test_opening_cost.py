"""What opening a screen or a box costs, counted and not timed."""

from collections import Counter
from typing import Any

import pytest
from canned import CannedLink, point, running
from canned_predictions import AnsweringLink
from pilot import open_app, picture
from textual.app import App
from textual.color import Color
from textual.css.stylesheet import Stylesheet
from textual.dom import DOMNode
from textual.screen import Screen
from textual.widget import Widget

from finetui.tui.app.app import FinetuiApp
from finetui.tui.screens.base import ModalScreen
from finetui.tui.screens.help import HelpScreen
from finetui.tui.terminal.compositor import TightCompositor
from finetui.tui.widgets.form_rows import TextRow


async def test_the_help_is_a_few_widgets_however_many_keys_it_tells_of() -> None:
    app = FinetuiApp(CannedLink(*running(point(10))))
    async with open_app(app, size=(120, 40)) as pilot:
        await pilot.settle()
        await pilot.press("question_mark")
        await pilot.settle()
        assert isinstance(app.screen, HelpScreen)
        assert len(app.screen._lines) > 30
        assert len(app.screen.query("*")) < 12  # each is styled, laid out and rendered


@pytest.mark.parametrize("width", [80, 120])
async def test_what_a_key_does_is_wrapped_beside_its_key(width: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("finetui.tui.screens.help.told", lambda _about: [("", "Part"), ("x", "word " * 40)])
    app = FinetuiApp(CannedLink(*running(point(10))))
    async with open_app(app, size=(width, 60)) as pilot:
        await pilot.settle()
        await pilot.press("question_mark")
        await pilot.settle()
        lines = [line for line in picture(app).splitlines() if "word word" in line]
        assert len(lines) > 1
        assert len({line.index("word") for line in lines}) == 1
        assert sum(line.count("word") for line in lines) == 40


async def test_a_box_renders_nothing_of_what_lies_behind_it(monkeypatch: pytest.MonkeyPatch) -> None:
    app = FinetuiApp(CannedLink(*running(point(10))))
    async with open_app(app, size=(120, 40)) as pilot:
        await pilot.settle()
        await pilot.press("question_mark")
        await pilot.settle()
        rendered: list[Widget] = []
        render_lines = Widget.render_lines
        monkeypatch.setattr(
            Widget, "render_lines", lambda self, crop: (rendered.append(self), render_lines(self, crop))[1]
        )
        title = app.screen.query_one("#title")
        title.refresh()
        await pilot.drawn()
        assert isinstance(app.screen, ModalScreen)
        assert title in rendered
        assert app.screen not in rendered


# Keys from the Train screen, the last of them counted; how often is laid out and painted, and how many widgets there
# are. What comes later is painted again: the commands that the palette finds, the list of images, then the images.
OPENINGS = [
    (("question_mark",), 2, 1, 10),
    (("ctrl+p",), 4, 5, 10),
    (("f",), 3, 1, 31),
    (("f", "f1"), 1, 1, 9),
    (("E",), 1, 1, 11),
    (("c",), 1, 1, 9),
    (("o",), 3, 1, 15),
    (("g",), 2, 2, 34),
    (("M",), 3, 1, 17),
    (("r",), 2, 1, 19),
    (("m",), 6, 5, 17),
    (("m", "C"), 2, 1, 15),
    (("m", "S"), 2, 1, 14),
    (("m", "slash"), 1, 1, 19),
    (("m", "greater_than_sign"), 1, 1, 12),
]
LATER = 2  # more of them where a busy machine lets what a thread reads come with frames of its own


class Counted:
    """Counts what an app does from now on: layouts and paints of all screens, styles, and widgets that are made."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.calls: Counter[str] = Counter()
        for kind, name in ((Screen, "_refresh_layout"), (Stylesheet, "apply"), (Widget, "__init__")):
            monkeypatch.setattr(kind, name, self._counting(name, getattr(kind, name)))
        display = App._display

        def shown(app: App[Any], screen: Screen[Any], update: object) -> None:
            self.calls["paint"] += update is not None
            display(app, screen, update)

        monkeypatch.setattr(App, "_display", shown)

    def _counting(self, name: str, call: Any) -> Any:
        def counted(*given: Any, **options: Any) -> Any:
            self.calls[name] += 1
            return call(*given, **options)

        return counted


@pytest.mark.parametrize(
    ("keys", "layouts", "paints", "widgets"), OPENINGS, ids=[".".join(keys) for keys, *_ in OPENINGS]
)
async def test_what_is_opened_is_laid_out_and_painted_once(
    link: AnsweringLink, monkeypatch: pytest.MonkeyPatch, keys: tuple[str, ...], layouts: int, paints: int, widgets: int
) -> None:
    app = FinetuiApp(link)
    async with open_app(app, size=(120, 40)) as pilot:
        await pilot.settle()
        for key in keys[:-1]:
            await pilot.press(key)
            await pilot.settle()
        below = app.screen
        counted = Counted(monkeypatch)
        await pilot.press(keys[-1])
        await pilot.settle()
        assert app.screen is not below, "nothing was opened"
        calls = counted.calls
        assert 0 < calls["_refresh_layout"] <= layouts + LATER, calls
        assert 0 < calls["paint"] <= paints + LATER, calls
        assert 0 < calls["__init__"] <= widgets, calls


def styles_of(screen: Screen[Any]) -> dict[DOMNode, object]:
    return {
        node: (
            node.styles.base.get_rules(),
            {name: one.base.get_rules() for name, one in node._component_styles.items()},
        )
        for node in screen.walk_children(with_self=True)
    }


async def test_the_first_screen_is_styled_once(monkeypatch: pytest.MonkeyPatch) -> None:
    styled: list[DOMNode] = []
    apply = Stylesheet.apply

    def noted(sheet: Stylesheet, node: DOMNode, **how: Any) -> None:
        styled.append(node)
        apply(sheet, node, **how)

    monkeypatch.setattr(Stylesheet, "apply", noted)
    app = FinetuiApp(CannedLink(*running(point(10))))
    async with open_app(app, size=(120, 40)) as pilot:
        await pilot.settle()
        widgets = app.screen.query("*")
        # Some change a class of theirs as they get something to show.
        assert len(widgets) <= len([node for node in styled if node in widgets]) < 1.5 * len(widgets)


@pytest.mark.parametrize("size", [(80, 24), (200, 60)])
async def test_every_screen_has_its_styles_as_it_comes(link: AnsweringLink, size: tuple[int, int]) -> None:
    app = FinetuiApp(link)
    async with open_app(app, size=size) as pilot:
        await pilot.settle()
        for keys in ([], *([key] for key in ("m", "g", "o", "r", "M", "c", "f", "E", "question_mark", "ctrl+p"))):
            await pilot.press(*keys)
            screen = app.screen
            before = styles_of(screen)
            screen.update_node_styles(animate=False)
            assert styles_of(screen) == before, screen
            await pilot.press(*(["escape"] * len(keys)))


async def test_the_label_of_a_field_is_muted_on_the_ground_of_its_form(link: AnsweringLink) -> None:
    app = FinetuiApp(link)
    async with open_app(app, size=(120, 40)) as pilot:
        await pilot.settle()
        await pilot.press("f")
        await pilot.settle()
        row = app.screen.query_one("#epochs", TextRow)
        label, *_, field = app.screen._compositor.render_strips(app.size)[row.region.y].crop(*row.region.column_span)
        assert label.text == " Epochs".ljust(15)
        colours = app.get_css_variables()
        assert label.style is not None and field.style is not None
        assert label.style.color == Color.parse(colours["muted"]).rich_color
        assert label.style.bgcolor == Color.parse(colours["panel"]).rich_color
        assert field.style.bgcolor == Color.parse(colours["field"]).rich_color


async def test_what_is_never_rendered_for_good_is_painted_all_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    app = FinetuiApp(CannedLink(*running(point(10))))
    async with open_app(app, size=(200, 60)) as pilot:
        await pilot.settle()
        asked: list[float] = []
        monkeypatch.setattr(TightCompositor, "prepare", lambda _self, seconds: asked.append(seconds))
        counted = Counted(monkeypatch)
        await pilot.press("question_mark")
        await pilot.settle()
        assert counted.calls["paint"]
        assert 0 < len(asked) < 100
