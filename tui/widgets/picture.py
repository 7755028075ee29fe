"""One image as large as whole factors allow."""

from collections.abc import Callable, Iterable, Sequence
from functools import partial
from itertools import count
from typing import Literal, NamedTuple

import numpy as np
import numpy.typing as npt
from rich.console import Console
from rich.segment import Segment
from textual.content import Content
from textual.errors import NoWidget
from textual.geometry import Region
from textual.strip import Strip
from textual.widget import Widget

from finetui.tui.colours.depth import Depth
from finetui.tui.colours.palettes import Rgb
from finetui.tui.graphics import Mode, strips
from finetui.tui.graphics.cells import Image, Overlay, centred
from finetui.tui.graphics.probe import cell_size
from finetui.tui.graphics.protocols import (
    KittyId,
    Placed,
    encode,
    kitty_deletion,
    kitty_id,
    kitty_image,
    kitty_lines,
    sixels_at,
)
from finetui.tui.widgets.styled_line import line_strip

_turns = count()


def image_mode(widget: Widget) -> Mode:
    """Return how the app that `widget` is part of draws images."""
    mode: Mode = getattr(widget.app, "image_mode", "blocks")
    # Both half blocks and Kitty's placeholders are colours, and there may be none.
    return "ascii" if mode in ("blocks", "kitty") and widget.app.no_color else mode


def colour_depth(widget: Widget) -> Depth:
    """Return how many colours the app that `widget` is part of draws in."""
    return getattr(widget.app, "depth", "truecolor")


class _Job(NamedTuple):
    """An image to be encoded for the terminal."""

    image: Image
    overlay: Overlay | None
    mode: Literal["sixel", "kitty"]
    room: tuple[int, int]  # cells wide and high
    background: Rgb

    def same_as(self, other: "_Job") -> bool:
        """Tell whether both give the same; arrays are not compared but by identity."""
        return self.image is other.image and self.overlay is other.overlay and self[2:] == other[2:]


class _Ground(Strip):
    """Cells that tell when they are sent to the terminal, whole or in part."""

    __slots__ = ("_painted",)

    def __init__(self, segments: Iterable[Segment], cell_length: int, painted: Callable[[], None]) -> None:
        super().__init__(segments, cell_length)
        self._painted = painted

    def crop(self, start: int, end: int | None = None) -> Strip:
        """Return the cells from `start` to `end`."""
        part = super().crop(start, end)
        return part if part is self else _Ground(part, part.cell_length, self._painted)

    def divide(self, cuts: Iterable[int]) -> Sequence[Strip]:
        """Return the cells between `cuts`."""
        return [_Ground(part, part.cell_length, self._painted) for part in super().divide(cuts)]

    def render(self, console: Console) -> str:
        """Return what the terminal is sent."""
        self._painted()
        return super().render(console)


class Picture(Widget):
    """Shows an image, or a few words while there is none.

    In a terminal with graphics a thread encodes the image, and the one before it stays meanwhile. Kitty's images are
    text to Textual. Sixels are sent again whenever any of the cells under them is painted, which wipes them out there;
    where the widget can be seen in part only, or under another screen, they are left out.
    """

    DEFAULT_CSS = """
    Picture { width: 1fr; height: 1fr; }
    """

    def __init__(self, *, id: str | None = None) -> None:  # noqa: A002
        super().__init__(id=id)
        self._image: Image | None = None
        self._overlay: Overlay | None = None
        self._note = ""
        self._strips: list[Strip] = []
        self._job: _Job | None = None  # the last that was asked for
        self._encoding = False
        self._placed: Placed | None = None
        self._known_as: KittyId | None = None
        self._wiped_out = False  # sixels, that will be sent again

    def show(
        self,
        image: npt.NDArray[np.uint8] | None,
        overlay: npt.NDArray[np.float32] | None = None,
        note: str = "",
    ) -> None:
        """Show `image`, uint8 `[H, W]` or `[H, W, 1 or 3]`, tinted by `overlay` (`[h, w]`, -1 to 1).

        Without an image show `note` instead.
        """
        if image is self._image and overlay is self._overlay and note == self._note:
            return
        self._image = image if image is not None and image.size else None
        self._overlay = overlay
        self._note = note
        if self._image is None:
            self._forget()
        self._draw()

    def on_resize(self) -> None:
        """Draw for the new size."""
        self._forget()
        self._draw()

    def on_unmount(self) -> None:
        """Leave no image behind in the terminal."""
        self._forget()

    def notify_style_update(self) -> None:
        """Draw with the colours of another theme."""
        super().notify_style_update()
        self._draw()

    @property
    def _behind(self) -> Rgb:
        _, behind = self.background_colors
        return behind.r, behind.g, behind.b

    def _draw(self) -> None:
        if not self.is_attached or not self.size:
            return
        mode = image_mode(self)
        if self._image is not None and mode in ("sixel", "kitty"):
            # Some terminals scroll after sixels that reach their last line.
            spare = int(mode == "sixel" and self.region.bottom >= self.app.size.height)
            room = (self.size.width, max(self.size.height - spare, 1))
            job = _Job(self._image, self._overlay, mode, room, self._behind)
            if self._job is None or not job.same_as(self._job):
                self._job = job
                self._encode_next()
        else:
            self._job = None
            self._strips = []
            self.refresh()

    # -- lines of cells -------------------------------------------------------------------------------------

    def render_line(self, y: int) -> Strip:
        """Render one line of the image, or the note in the middle."""
        width, height = self.size
        if self._image is None or (self._job is not None and not self._strips):
            text = Content.styled(self._note if self._image is None and y == height // 2 else "", "$muted")
            pad = max((width - text.cell_length) // 2, 0)
            return line_strip(self, Content.assemble(" " * pad, text), width)
        if not self._strips:
            self._strips = strips(
                self._image,
                width,
                height,
                ascii=image_mode(self) == "ascii",
                dark=self.app.current_theme.dark,
                background=self._behind,
                overlay=self._overlay,
                depth=colour_depth(self),
            )
        return self._strips[y] if y < len(self._strips) else Strip.blank(width, self.rich_style)

    def render_lines(self, crop: Region) -> list[Strip]:
        """Render the lines; with sixels upon them, so that it is known when these are wiped out."""
        lines = super().render_lines(crop)
        if self._placed is None or self._known_as is not None:
            return lines
        return [_Ground(line, line.cell_length, self._ground_painted) for line in lines]

    # -- graphics -------------------------------------------------------------------------------------------

    def _encode_next(self) -> None:
        """Encode what was asked for last, one at a time: a cursor that is held down skips images."""
        if not self._encoding and self._job is not None:
            self._encoding = True
            work = partial(self._encode, self._job)
            self.app.run_worker(work, thread=True, exit_on_error=False, name="picture", group="picture")

    def _encode(self, job: _Job) -> None:
        placed = None
        try:
            placed = encode(
                job.image, job.overlay, mode=job.mode, room=job.room, cell=cell_size(), background=job.background
            )
        finally:
            self.app.call_from_thread(self._encoded, job, placed)

    def _encoded(self, job: _Job, placed: Placed | None) -> None:
        self._encoding = False
        if not self.is_attached:
            return
        if job is self._job and placed is not None:
            before, self._placed, self._known_as = self._known_as, placed, None
            lines: list[list[Segment]] = []
            if job.mode == "kitty":
                self._known_as = kitty_id(next(_turns), self.app.console.color_system)
                self._send(kitty_image(placed, self._known_as))
                lines = kitty_lines(placed, self._known_as, job.background)
            self._strips = centred(lines, placed.wide, *self.size, self.rich_style)
            self.refresh()
            if before is not None:
                self.call_after_refresh(self._send, kitty_deletion(before))
        elif job is not self._job:
            self._encode_next()

    def _ground_painted(self) -> None:
        if not self._wiped_out:
            self._wiped_out = True
            self.call_after_refresh(self._send_sixels)

    def _send_sixels(self) -> None:
        self._wiped_out = False
        if self._placed is None or self._known_as is not None or not self.is_attached or not self.screen.is_active:
            return
        try:
            found = self.screen.find_widget(self)
        except NoWidget:  # it has been hidden since
            return
        if found.visible_region == found.region:
            left = found.region.x + (found.region.width - self._placed.wide) // 2
            top = found.region.y + (found.region.height - self._placed.high) // 2
            self._send(sixels_at(self._placed, left, top))

    def send_again(self) -> None:
        """Give the terminal an image that it may have lost; sixels go with the cells under them."""
        if self._placed is not None and self._known_as is not None:
            self._send(kitty_image(self._placed, self._known_as))

    def _forget(self) -> None:
        """Take the image from the terminal."""
        if self._known_as is not None:
            self._send(kitty_deletion(self._known_as))
        self._placed = self._known_as = self._job = None
        self._strips = []
        self.refresh()

    def _send(self, data: str) -> None:
        # Through Textual's own writer: what is written beside it can land in the middle of an escape sequence.
        driver = self.app._driver
        if driver is not None:
            driver.write(data)
