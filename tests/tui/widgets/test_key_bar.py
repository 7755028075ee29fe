"""The last line: which keys there are, by mouse as well, and cheap to change."""

from pilot import open_app
from textual.app import App, ComposeResult
from textual.binding import Binding
from textual.widget import Widget

from finetui.tui.widgets.key_bar import KeyBar


class Focusable(Widget, can_focus=True):
    BINDINGS = [Binding("f", "own", "Own key")]
    DEFAULT_CSS = "Focusable { height: 1; }"

    def action_own(self) -> None:
        self.app.pressed.append("own")


class Keys(App[None]):
    BINDINGS = [
        Binding("a", "note('a')", "Alpha"),
        Binding("b", "note('b')", "Beta"),
        Binding("x", "note('a')", "Alpha again"),
        Binding("h", "note('h')", "Hidden", show=False),
    ]

    def __init__(self) -> None:
        super().__init__()
        self.pressed: list[str] = []
        self.allowed = True

    def compose(self) -> ComposeResult:
        yield Focusable()
        yield KeyBar(palette=True)

    def check_action(self, action: str, parameters: tuple[object, ...]) -> bool | None:
        return True if self.allowed or parameters != ("b",) else None

    def action_note(self, key: str) -> None:
        self.pressed.append(key)


def shown(app: App) -> str:
    return app.query_one(KeyBar).render_line(0).text


async def test_the_keys_of_the_screen_and_of_what_has_the_focus() -> None:
    app = Keys()
    async with open_app(app, size=(100, 5)) as pilot:
        app.screen.set_focus(None)
        await pilot.drawn()
        assert shown(app).split("│") == [" a Alpha  b Beta ".ljust(87), " ^p palette "]
        app.query_one(Focusable).focus()
        await pilot.drawn()
        assert shown(app).startswith(" f Own key  a Alpha  b Beta ")


async def test_keys_that_do_not_fit_are_left_out_whole() -> None:
    app = Keys()
    async with open_app(app, size=(24, 5)) as pilot:
        await pilot.drawn()
        assert shown(app) == " f Own key a Alpha │ ^p "
        await pilot.resize_terminal(22, 5)
        assert shown(app) == " f Own key       │ ^p "
        await pilot.click(KeyBar, offset=(13, 0))
        assert app.pressed == []


async def test_a_click_presses_a_key_and_nothing_beside_them() -> None:
    app = Keys()
    async with open_app(app, size=(100, 5)) as pilot:
        await pilot.drawn()
        for text in ("Own", "a Alpha", "Beta"):
            await pilot.click(KeyBar, offset=(shown(app).index(text), 0))
        await pilot.click(KeyBar, offset=(80, 0))
        assert app.pressed == ["own", "a", "b"]
        app.allowed = False
        app.refresh_bindings()
        await pilot.drawn()
        await pilot.click(KeyBar, offset=(shown(app).index("Beta"), 0))
        assert app.pressed == ["own", "a", "b"]
        await pilot.click(KeyBar, offset=(90, 0))
        assert type(app.screen).__name__ == "CommandPalette"


async def test_the_key_below_the_pointer_is_marked() -> None:
    app = Keys()
    async with open_app(app, size=(100, 5)) as pilot:
        await pilot.drawn()
        plain = app.query_one(KeyBar).render_line(0)
        await pilot.hover(KeyBar, offset=(shown(app).index("Beta"), 0))
        marked = app.query_one(KeyBar).render_line(0)
        assert marked.text == plain.text
        assert marked != plain
        await pilot.hover(Focusable)
        assert app.query_one(KeyBar).render_line(0) == plain


async def test_a_change_of_the_focus_repaints_only_what_differs(monkeypatch) -> None:
    app = Keys()
    async with open_app(app, size=(100, 5)) as pilot:
        await pilot.drawn()
        bar = app.query_one(KeyBar)
        regions: list[object] = []
        monkeypatch.setattr(bar, "refresh", lambda *given, **_: regions.extend(given))
        app.refresh_bindings()
        await pilot.drawn()
        assert regions == []
        app.screen.set_focus(None)
        await pilot.drawn()
        assert regions
        assert max(region.right for region in regions) < 88  # and not the palette's key
