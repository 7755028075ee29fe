"""One image as large as it fits: blocks, shades, and what a terminal with graphics is sent."""

import numpy as np
import pytest
from pilot import open_app
from textual.app import App, ComposeResult
from textual.containers import Horizontal
from textual.content import Content
from textual.screen import ModalScreen, Screen
from textual.widgets import Static

from finetui.tui.app.theme import DARK, LIGHT
from finetui.tui.graphics.cells import CellSize
from finetui.tui.terminal.compositor import TightCompositor
from finetui.tui.widgets import picture
from finetui.tui.widgets.picture import Picture

IMAGE = np.arange(16, dtype=np.uint8).reshape(4, 4) * 15


@pytest.fixture(autouse=True)
def cells_of_ten_by_twenty_pixels(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(picture, "cell_size", lambda: CellSize(10, 20))


class PictureScreen(Screen[None]):
    """A picture beside a text that changes, drawn as the dashboard draws."""

    def __init__(self) -> None:
        super().__init__()
        self._compositor = TightCompositor()

    def compose(self) -> ComposeResult:
        with Horizontal():
            yield Static("left", id="beside")
            yield Picture()

    def on_mount(self) -> None:
        self.query_one("#beside").styles.width = 10


class PictureApp(App[None]):
    """An app whose driver sends to a list what it would send to a terminal."""

    is_headless = False

    def __init__(self, mode: str) -> None:
        super().__init__()
        self.image_mode = mode
        self.sent: list[str] = []

    def on_mount(self) -> None:
        self.register_theme(DARK)
        self.register_theme(LIGHT)
        self.theme = DARK.name
        self._driver.write = self.sent.append
        self.push_screen(PictureScreen())

    @property
    def picture(self) -> Picture:
        return next(screen for screen in self.screen_stack if isinstance(screen, PictureScreen)).query_one(Picture)

    def text(self) -> list[str]:
        return [self.picture.render_line(y).text for y in range(self.picture.size.height)]

    def take(self) -> str:
        """Return all that was sent to the terminal since the last time."""
        sent = "".join(self.sent)
        self.sent.clear()
        return sent


async def test_without_an_image_there_are_the_words_and_with_one_there_are_not() -> None:
    app = PictureApp("blocks")
    async with open_app(app, size=(40, 11)) as pilot:
        app.picture.show(None, note="[b]no image[/b] 漢字")
        await pilot.settle()
        assert app.text()[5].strip() == "[b]no image[/b] 漢字"
        assert all(app.picture.render_line(y).cell_length == 30 for y in range(11))
        app.picture.show(IMAGE)
        await pilot.settle()
        assert "image" not in "".join(app.text())
        app.picture.show(np.zeros((0, 0, 1), np.uint8), note="empty")
        await pilot.settle()
        assert app.text()[5].strip() == "empty"


async def test_the_image_is_as_large_as_whole_factors_allow_and_in_the_middle() -> None:
    app = PictureApp("blocks")
    async with open_app(app, size=(40, 11)) as pilot:
        app.picture.show(IMAGE)
        await pilot.settle()
        colours = {segment.style.bgcolor for y in range(11) for segment in app.picture.render_line(y)}
        ground = app.picture.render_line(0)._segments[0].style.bgcolor
        assert len(colours) == 17
        spans = [[len(s.text) for s in app.picture.render_line(y) if s.style.bgcolor != ground] for y in range(11)]
        assert [sum(line) for line in spans] == [20] * 10 + [0]  # a factor of 5
        assert [segment.style.bgcolor == ground for segment in app.picture.render_line(3)][:1] == [True]
        assert len(app.picture.render_line(3)._segments[0].text) == 5
        await pilot.resize_terminal(22, 11)
        await pilot.settle()
        assert sum(len(s.text) for s in app.picture.render_line(4) if s.style.bgcolor != ground) == 12


async def test_shades_follow_the_theme() -> None:
    app = PictureApp("ascii")
    async with open_app(app, size=(18, 4)) as pilot:
        app.picture.show(np.array([[0, 255]] * 2, np.uint8))
        await pilot.settle()
        dark = app.text()
        assert dark[1] == "    @@@@"
        app.theme = LIGHT.name
        await pilot.settle()
        assert app.text()[1] == "@@@@    "


async def test_sixels_follow_the_cells_and_stay_within_the_widget() -> None:
    app = PictureApp("sixel")
    async with open_app(app, size=(40, 12)) as pilot:
        await pilot.settle()
        app.take()
        app.picture.show(IMAGE)
        await pilot.settle()
        sent = app.take()
        # 20 x 10 cells of 10 x 20 pixels, one line left free at the lower edge; 4 pixels, enlarged 55 times
        assert '"1;1;220;220' in sent
        assert "\x1b7\x1b[1;15H\x1bP" in sent
        assert app.picture.size == (30, 12)
        beside = app.picture.screen.query_one("#beside", Static)
        beside.update(Content("other"))
        await pilot.settle()
        sent = app.take()
        assert "other" in sent
        assert "\x1bP" not in sent  # nothing of the picture was wiped out
        app.picture.show(None, note="gone")
        await pilot.settle()
        sent = app.take()
        assert "gone" in sent
        assert "\x1bP" not in sent


async def test_sixels_are_left_out_under_another_screen_and_come_back() -> None:
    app = PictureApp("sixel")
    async with open_app(app, size=(40, 12)) as pilot:
        app.picture.show(IMAGE)
        await pilot.settle()
        app.take()
        app.picture.refresh()
        await app.push_screen(ModalScreen())
        app.picture._send_sixels()  # painted before the other screen came, and not sent yet
        await pilot.settle()
        assert "\x1bP" not in app.take()
        app.picture.show(IMAGE.copy())
        await pilot.settle()
        app.refresh(layout=True)
        await pilot.settle()
        assert "\x1bP" not in app.take()
        app.pop_screen()
        await pilot.settle()
        assert app.take().count("\x1bP") >= 1


async def test_sixels_are_left_out_where_the_picture_is_seen_in_part() -> None:
    app = PictureApp("sixel")
    async with open_app(app, size=(40, 12)) as pilot:
        app.picture.show(IMAGE)
        await pilot.settle()
        app.take()
        app.picture.styles.min_width = 40  # ten cells beyond the screen's edge
        await pilot.settle()
        app.picture.refresh()
        await pilot.settle()
        sent = app.take()
        assert sent
        assert "\x1bP" not in sent


async def test_kitty_is_sent_an_image_once_and_cells_that_show_it() -> None:
    app = PictureApp("kitty")
    async with open_app(app, size=(40, 12)) as pilot:
        app.picture.show(IMAGE)
        await pilot.settle()
        sent = app.take()
        assert sent.count("a=T,U=1") == 1
        first = sent.index("a=T,U=1")
        assert first < sent.index("\U0010eeee")
        assert (
            "".join(app.text()).count("\U0010eeee") == 24 * 12
        )  # 300 x 240 pixels of room; 4 pixels, enlarged 60 times
        app.picture.refresh()
        await pilot.settle()
        assert "a=T" not in app.take()
        app.picture.show(IMAGE.copy())
        await pilot.settle()
        sent = app.take()
        assert sent.count("a=T,U=1") == 1
        assert sent.count("a=d,d=I") == 1
        app.picture.show(None)
        await pilot.settle()
        assert app.take().count("a=d,d=I") == 1
        assert "\U0010eeee" not in "".join(app.text())


async def test_a_kitty_image_leaves_with_its_screen() -> None:
    app = PictureApp("kitty")
    async with open_app(app, size=(40, 12)) as pilot:
        app.picture.show(IMAGE)
        await pilot.settle()
        app.take()
        app.pop_screen()
        await pilot.settle()
        assert app.take().count("a=d,d=I") == 1


async def test_images_that_were_passed_while_one_is_encoded_are_skipped(monkeypatch: pytest.MonkeyPatch) -> None:
    encoded = []
    encode = picture.encode
    monkeypatch.setattr(
        picture, "encode", lambda image, *a, **k: (encoded.append(int(image[0, 0])), encode(image, *a, **k))[1]
    )
    app = PictureApp("kitty")
    async with open_app(app, size=(40, 12)) as pilot:
        await pilot.settle()
        for value in range(20):
            app.picture.show(np.full((4, 4), value, np.uint8))
        await pilot.settle()
        await pilot.settle()
        assert encoded == [0, 19]


async def test_the_whole_picture_is_drawn_anew_where_a_part_of_it_was_covered() -> None:
    app = PictureApp("sixel")
    async with open_app(app, size=(40, 12)) as pilot:
        app.picture.show(IMAGE)
        await pilot.settle()
        app.take()
        app.notify("covers the lower right corner")
        await pilot.wait(0.5)
        assert "covers" in app.take()
        app.clear_notifications()
        await pilot.wait(0.5)
        assert app.take().count("\x1bP") == 1


async def test_without_colours_images_are_characters(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("NO_COLOR", "1")
    app = PictureApp("kitty")
    async with open_app(app, size=(40, 12)) as pilot:
        app.picture.show(IMAGE)
        await pilot.settle()
        text = "".join(app.picture.render_line(y).text for y in range(12))
        assert set(text) <= set(" .:-=+*#%@") and set(text) != {" "}
        assert "\x1b_G" not in app.take()
