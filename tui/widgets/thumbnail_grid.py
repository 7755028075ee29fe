"""A grid of thumbnails over any number of images, of which only those near the window are known."""

from collections import OrderedDict
from collections.abc import Mapping
from typing import ClassVar, NamedTuple

from textual import events
from textual.binding import BindingType
from textual.content import Content
from textual.geometry import Region, Size
from textual.message import Message
from textual.reactive import reactive
from textual.scroll_view import ScrollView
from textual.strip import Strip

from finetui.tui.graphics import strips
from finetui.tui.keys import bind, move
from finetui.tui.widgets.picture import colour_depth, image_mode
from finetui.tui.widgets.styled_line import line_strip
from finetui.tui.widgets.tile import Tile as Tile

SIZES = {"small": (14, 7), "medium": (28, 14), "large": (56, 28)}  # cells of a thumbnail
_CAPTIONS = 2  # lines
_MOST_FOLDED = 2  # more lines that a caption may take
_GAP = 2
_UNKNOWN = -1  # where the lines of all tiles that are not known yet are kept
_KEPT = 512  # tiles; more where more are in sight
_NEED_SECONDS = 0.05  # so that a page that one only scrolls past is not asked for


class _Look(NamedTuple):
    here: bool
    focused: bool
    height: int


class _Drawn(NamedTuple):
    look: _Look
    picture: list[Strip]
    lines: list[Strip]


class ThumbnailGrid(ScrollView, can_focus=True):
    """Shows `count` positions as tiles; whoever listens to `Needed` gives it their tiles with `set_tiles`.

    Thumbnails are half blocks, or shades without colours, also where the terminal has graphics: these cannot be moved
    by scrolling.
    """

    DEFAULT_CSS = """
    ThumbnailGrid {
        scrollbar-size-vertical: 1;
        scrollbar-size-horizontal: 0;
        scrollbar-background: $background;
        scrollbar-background-hover: $background;
        overflow-x: hidden;
    }
    """
    BINDINGS: ClassVar[list[BindingType]] = [
        move("left", "move(-1)"),
        move("right", "move(1)"),
        move("up", "move_rows(-1)"),
        move("down", "move_rows(1)"),
        move("pageup", "move_pages(-1)"),
        move("pagedown", "move_pages(1)"),
        move("home", "go(0)"),
        move("end", "go(-1)"),
        bind("confirm", "choose", label="Enlarge"),
        bind("toggle", "mark", label="Mark"),
        bind("smaller", "resize(-1)", show=False),
        bind("larger", "resize(1)", show=False),
    ]

    size_name: reactive[str] = reactive("small")

    class Resized(Message):
        """Thumbnails have another size now."""

    class Needed(Message):
        """The tiles `first` to `last` are in sight, or nearly, and not all of them are known."""

        def __init__(self, first: int, last: int) -> None:
            super().__init__()
            self.first = first
            self.last = last

    class _OfPosition(Message):
        def __init__(self, position: int) -> None:
            super().__init__()
            self.position = position

    class Highlighted(_OfPosition):
        """The cursor is at `position` now."""

    class Chosen(_OfPosition):
        """Somebody wants more of `position`."""

    class MarkToggled(_OfPosition):
        """Somebody marks `position`, or takes the mark away."""

    def __init__(self, *, id: str | None = None) -> None:  # noqa: A002
        super().__init__(id=id)
        self._count = 0
        self._cursor = 0
        self._tiles: OrderedDict[int, Tile] = OrderedDict()
        self._drawn: dict[int, _Drawn] = {}
        self._asking = False
        self._widest = 0
        self._longest = 0

    # -- what is shown --------------------------------------------------------------------------------------

    @property
    def cursor(self) -> int:
        """The position under the cursor."""
        return self._cursor

    def set_count(self, count: int, *, keep_cursor: bool = False, widest: int = 0, longest: int = 0) -> None:
        """Show `count` positions, none of them known yet.

        Where thumbnails are narrower than `widest` cells, captions are folded: for a line of `longest` cells there is
        room beside two others.
        """
        self._count, self._widest, self._longest = count, widest, longest
        self._cursor = min(self._cursor, max(count - 1, 0)) if keep_cursor else 0
        self.clear_tiles()
        self._lay_out()
        if not keep_cursor:
            self.scroll_to(y=0, animate=False, force=True, immediate=True)

    def clear_tiles(self) -> None:
        """Forget all tiles."""
        self._tiles.clear()
        self._drawn.clear()
        self.refresh()
        self._look_for_gaps()

    def set_tiles(self, tiles: Mapping[int, Tile]) -> None:
        """Show `tiles` from now on, by their positions; those that look as before cost nothing."""
        for position, tile in tiles.items():
            before = self._tiles.get(position)
            self._tiles[position] = tile
            self._tiles.move_to_end(position)
            if before is None or not tile.same_as(before):
                self._drawn.pop(position, None)
                self._refresh_tile(position)
        kept = max(_KEPT, len(self._nearby()))
        while len(self._tiles) > kept:
            self._drawn.pop(self._tiles.popitem(last=False)[0], None)

    # -- geometry -------------------------------------------------------------------------------------------

    @property
    def thumbnail(self) -> tuple[int, int]:
        """Width and height of a thumbnail in cells; no larger than the window."""
        wide, high = SIZES[self.size_name]
        room = self.scrollable_content_region
        wide = max(4, min(wide, room.width - 1))
        return wide, max(2, min(high, room.height - self._captions(wide)))

    def _captions(self, wide: int) -> int:
        """Return the lines of a caption below a thumbnail of `wide` cells."""
        if self._widest <= wide:
            return _CAPTIONS
        return _CAPTIONS + min(-(-self._longest // wide), _MOST_FOLDED)

    @property
    def columns(self) -> int:
        """Tiles side by side."""
        # The gap after the last column may be cut off.
        return max(1, (self.scrollable_content_region.width + _GAP - 1) // (self.thumbnail[0] + _GAP))

    @property
    def _tile_height(self) -> int:
        wide, high = self.thumbnail
        return high + self._captions(wide)

    def fits(self, size_name: str) -> bool:
        """Tell whether all thumbnails are in sight at once in the size of that name."""
        wide, high = SIZES[size_name]
        room = self.scrollable_content_region
        columns = (room.width + _GAP - 1) // (wide + _GAP)
        return columns > 0 and -(-self._count // columns) * (high + self._captions(wide)) <= room.height

    def width_for(self, room: int) -> int:
        """Return the width, at most `room`, that its columns fill, the scroll bar beside them."""
        wide = SIZES[self.size_name][0] + _GAP
        return min(max(room // wide, 1) * wide, room)

    def _lay_out(self) -> None:
        rows = -(-self._count // self.columns)
        self.virtual_size = Size(self.scrollable_content_region.width, rows * self._tile_height)
        self.refresh()
        self._look_for_gaps()

    def _region_of(self, position: int) -> Region:
        row, column = divmod(position, self.columns)
        wide = self.thumbnail[0] + _GAP
        return Region(column * wide, row * self._tile_height, wide, self._tile_height)

    def _refresh_tile(self, position: int) -> None:
        region = self._region_of(position).translate(-self.scroll_offset)
        if region.overlaps(self.size.region):
            self.refresh(region)

    def on_resize(self) -> None:
        """Lay the tiles out for the new size; the cursor stays in sight."""
        self._drawn.clear()
        self._lay_out()
        self.call_after_refresh(self._show_cursor)

    def watch_size_name(self) -> None:
        """Lay the tiles out anew."""
        self._drawn.clear()
        self._lay_out()
        self.post_message(self.Resized())
        self.call_after_refresh(self._show_cursor)

    def watch_scroll_y(self, old_value: float, new_value: float) -> None:
        """Ask for what has come into sight."""
        super().watch_scroll_y(old_value, new_value)
        self._look_for_gaps()

    def notify_style_update(self) -> None:
        """Draw with the colours of another theme."""
        super().notify_style_update()
        self._drawn.clear()

    def _look_for_gaps(self) -> None:
        if not self._asking and self._count and self.is_attached:
            self._asking = True
            self.set_timer(_NEED_SECONDS, self._ask_for_gaps)

    def _nearby(self) -> range:
        """Return the positions in sight, and a page above and below."""
        height = self.scrollable_content_region.height
        top = int(self.scroll_offset.y)
        first = max((top - height) // self._tile_height, 0) * self.columns
        return range(first, min(((top + 2 * height) // self._tile_height + 1) * self.columns, self._count))

    def _ask_for_gaps(self) -> None:
        self._asking = False
        nearby = self._nearby()
        if any(position not in self._tiles for position in nearby):
            self.post_message(self.Needed(nearby.start, nearby.stop - 1))

    # -- rendering ------------------------------------------------------------------------------------------

    def render_line(self, y: int) -> Strip:
        """Render one line through all tiles beside each other."""
        width = self.scrollable_content_region.width
        row, line = divmod(y + int(self.scroll_offset.y), self._tile_height)
        first = row * self.columns
        pieces = [self._tile_line(position, line) for position in range(first, min(first + self.columns, self._count))]
        return Strip.join(pieces).adjust_cell_length(width, self.rich_style)

    def _tile_line(self, position: int, line: int) -> Strip:
        tile = self._tiles.get(position)
        if tile is not None:
            self._tiles.move_to_end(position)  # the least recently shown go first
        look = _Look(here=position == self._cursor, focused=self.has_focus, height=self._tile_height)
        place = position if tile is not None else _UNKNOWN
        drawn = self._drawn.get(place)
        # After a change of size lines are rendered before anybody is told of it.
        if drawn is None or drawn.look != look:
            picture = drawn.picture if drawn is not None and drawn.look.height == look.height else self._picture(tile)
            drawn = self._drawn[place] = _Drawn(look, picture, self._draw_tile(tile, picture, look))
        return drawn.lines[line]

    def _picture(self, tile: Tile | None) -> list[Strip]:
        wide, high = self.thumbnail
        return self._draw(tile) if tile is not None else [Strip.blank(wide, self.rich_style)] * high

    def _draw_tile(self, tile: Tile | None, picture: list[Strip], look: _Look) -> list[Strip]:
        """Return all lines of a tile; they are kept, since drawing costs a hundred times what showing does."""
        wide = self.thumbnail[0]
        accent = "$accent" if look.focused else "$muted"
        edge = line_strip(self, Content.styled("▌" if look.here else " ", accent), 1)
        gap = Strip.blank(_GAP - 1, self.rich_style)
        lines = [Strip.join([edge, strip, gap]) for strip in picture]
        height = self._captions(wide)
        captions = tile.caption(wide, height) if tile is not None else []
        for line in range(height):
            text = captions[line] if line < len(captions) else Content("")
            if tile is not None and tile.marked and line == max(len(captions) - 1, 1):
                text = Content.assemble(("● ", "$success"), text)
            text = text.truncate(wide, ellipsis=True, pad=True)
            if look.here and line == 0:
                text = Content(text.plain).stylize("reverse" if look.focused else "bold")
            lines.append(Strip.join([edge, line_strip(self, text, wide), gap]))
        return lines

    def _draw(self, tile: Tile) -> list[Strip]:
        wide, high = self.thumbnail
        if tile.image is None or not tile.image.size:
            text = Content.styled(tile.problem or "·", "$muted")
            pad = " " * max((wide - text.cell_length) // 2, 0)
            empty = Strip.blank(wide, self.rich_style)
            middle = line_strip(self, Content.assemble(pad, text), wide)
            return [middle if line == high // 2 else empty for line in range(high)]
        _, behind = self.background_colors
        return strips(
            tile.image,
            wide,
            high,
            ascii=image_mode(self) == "ascii",
            dark=self.app.current_theme.dark,
            background=(behind.r, behind.g, behind.b),
            depth=colour_depth(self),
        )

    # -- the cursor -----------------------------------------------------------------------------------------

    def on_focus(self) -> None:
        """Show the cursor as active."""
        self._refresh_tile(self._cursor)

    def on_blur(self) -> None:
        """Show the cursor as inactive."""
        self._refresh_tile(self._cursor)

    def move_cursor(self, by: int) -> None:
        """Move the cursor by so many positions."""
        self.move_to(self._cursor + by)

    def move_to(self, position: int) -> None:
        """Move the cursor to `position`, or as near as there is one."""
        position = min(max(position, 0), self._count - 1)
        if position < 0 or position == self._cursor:
            return
        before, self._cursor = self._cursor, position
        self._refresh_tile(before)
        self._refresh_tile(position)
        self._show_cursor()
        self.post_message(self.Highlighted(position))

    def _show_cursor(self) -> None:
        if self._count:
            region = self._region_of(self._cursor)
            self.scroll_to_region(Region(0, region.y, 1, region.height), animate=False, force=True, immediate=True)

    def action_move(self, by: int) -> None:
        """Go to the next or the previous position."""
        self.move_cursor(by)

    def action_move_rows(self, by: int) -> None:
        """Go up or down."""
        target = self._cursor + by * self.columns
        if by > 0 and target >= self._count:  # the last row may be shorter
            in_last_row = self._cursor // self.columns == (self._count - 1) // self.columns
            target = self._cursor if in_last_row else self._count - 1
        self.move_to(target if target >= 0 else self._cursor % self.columns)

    def action_move_pages(self, by: int) -> None:
        """Go up or down by as many rows as are in sight."""
        self.action_move_rows(by * max(self.scrollable_content_region.height // self._tile_height, 1))

    def action_go(self, position: int) -> None:
        """Go to the first or (-1) the last position."""
        self.move_to(self._count - 1 if position < 0 else position)

    def action_choose(self) -> None:
        """Ask for more of the position under the cursor."""
        if self._count:
            self.post_message(self.Chosen(self._cursor))

    def action_mark(self) -> None:
        """Mark the position under the cursor, or not any more."""
        if self._count:
            self.post_message(self.MarkToggled(self._cursor))

    def action_resize(self, by: int) -> None:
        """Make the thumbnails smaller or larger."""
        names = list(SIZES)
        self.size_name = names[min(max(names.index(self.size_name) + by, 0), len(names) - 1)]

    def on_click(self, event: events.Click) -> None:
        """Put the cursor on a tile; a second click chooses it."""
        wide = self.thumbnail[0] + _GAP
        column, row = event.x // wide, (event.y + int(self.scroll_offset.y)) // self._tile_height
        position = row * self.columns + column
        if column < self.columns and 0 <= position < self._count:
            event.stop()
            self.focus()
            if position == self._cursor and event.chain > 1:
                self.action_choose()
            self.move_to(position)
