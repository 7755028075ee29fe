"""One image as large as whole factors allow."""

from typing import Any

import numpy as np
import numpy.typing as npt
from PIL import Image as PillowImage
from textual.app import ComposeResult
from textual.content import Content
from textual.strip import Strip
from textual.widget import Widget

from tui.pictures import Mode, strips
from tui.pictures.cells import coloured, resampled
from tui.widgets.styled_line import line_strip


def image_mode(widget: Widget) -> Mode:
    """Return how the app that `widget` is part of draws images."""
    mode: Mode = getattr(widget.app, "image_mode", "blocks")
    return mode


class Picture(Widget):
    """Shows an image, or a few words while there is none."""

    DEFAULT_CSS = """
    Picture { width: 1fr; height: 1fr; align: center middle; }
    """

    def __init__(self, *, id: str | None = None) -> None:  # noqa: A002
        super().__init__(id=id)
        self._image: npt.NDArray[np.uint8] | None = None
        self._overlay: npt.NDArray[np.float32] | None = None
        self._note = ""
        self._strips: list[Strip] = []
        self._graphics: Any = None  # a widget of textual-image's, where the terminal has graphics

    def compose(self) -> ComposeResult:
        """In a terminal with graphics, the widget that draws them."""
        mode = image_mode(self)
        if mode in ("sixel", "kitty"):
            from textual_image.widget import SixelImage, TGPImage

            self._graphics = SixelImage() if mode == "sixel" else TGPImage()
            yield self._graphics

    def show(
        self,
        image: npt.NDArray[np.uint8] | None,
        overlay: npt.NDArray[np.float32] | None = None,
        note: str = "",
    ) -> None:
        """Show `image`, uint8 `[H, W, 1 or 3]`, tinted by `overlay` (`[h, w]`, -1 to 1); `note` if there is none."""
        if image is self._image and overlay is self._overlay and note == self._note:
            return
        self._image = image if image is not None and image.size else None
        self._overlay = overlay
        self._note = note
        self._draw()

    def on_resize(self) -> None:
        """Draw for the new size."""
        self._draw()

    def notify_style_update(self) -> None:
        """Draw with the colours of another theme."""
        super().notify_style_update()
        self._draw()

    def _draw(self) -> None:
        self._strips = []
        if self._graphics is not None:
            self._draw_graphics()
        self.refresh()

    def render_line(self, y: int) -> Strip:
        """Render one line of the image, or the note in the middle."""
        width, height = self.size
        if self._image is None or self._graphics is not None:
            middle = self._image is None and y == height // 2
            text = Content.styled(self._note if middle else "", "$muted")
            pad = max((width - text.cell_length) // 2, 0)
            return line_strip(self, Content.assemble(" " * pad, text), width)
        if not self._strips:
            _, behind = self.background_colors
            self._strips = strips(
                self._image,
                width,
                height,
                ascii=image_mode(self) == "ascii",
                dark=self.app.current_theme.dark,
                background=(behind.r, behind.g, behind.b),
                overlay=self._overlay,
            )
        return self._strips[y] if y < len(self._strips) else Strip.blank(width, self.rich_style)

    def _draw_graphics(self) -> None:
        """Give the image to textual-image in whole cells, so that nothing is left for it to scale."""
        from textual_image._terminal import get_cell_size  # as its own widgets do

        if self._image is None or not self.size.width or not self.size.height:
            self._graphics.image = None
            return
        cell = get_cell_size()
        height, width = self._image.shape[:2]
        room_wide, room_high = self.size.width * cell.width, self.size.height * cell.height
        factor = min(room_wide // width, room_high // height)
        overlay = None if self._overlay is None else resampled(self._overlay, height, width)
        shown = coloured(self._image, overlay)
        if factor >= 1:
            shown = shown.repeat(factor, 0).repeat(factor, 1)
        picture = PillowImage.fromarray(np.ascontiguousarray(shown))
        if factor < 1:
            picture.thumbnail((room_wide, room_high), PillowImage.Resampling.BOX)
        wide, high = -(-picture.width // cell.width), -(-picture.height // cell.height)
        _, behind = self.background_colors
        canvas = PillowImage.new("RGB", (wide * cell.width, high * cell.height), (behind.r, behind.g, behind.b))
        canvas.paste(picture, ((canvas.width - picture.width) // 2, (canvas.height - picture.height) // 2))
        self._graphics.styles.width, self._graphics.styles.height = wide, high
        self._graphics.image = canvas
