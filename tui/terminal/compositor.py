"""Sending only the cells that changed.

Textual 8 crops an update of part of a widget on its right, and resends each line from the widget's left edge: four
times the bytes for a plot that grows at its end. Textual marks the place with a TODO; this fills it in. It also has
every widget within the box around all that changed render all of its lines; here it is those lines that changed, and
none of what lies behind a widget that covers all of a change. It relies on private names of Textual's;
`tests/tui/test_textual_overrides.py` fails where they change.
"""

from collections.abc import Iterable

from rich.console import Console
from textual._compositor import ChopsUpdate, Compositor
from textual.geometry import Offset, Region
from textual.strip import Strip


class _TightUpdate(ChopsUpdate):
    def render_segments(self, console: Console) -> str:
        """Return the escape sequences and text that update the terminal."""
        return "".join(
            f"\x1b[{at.y + 1};{at.x + 1}H{strip.render(console)}" for at, strip in self._changed() if strip.cell_length
        )

    def _changed(self) -> list[tuple[Offset, Strip]]:
        found = []
        for y, x1, x2 in self.spans:
            for end, (x, strip) in zip(self.chop_ends[y], self.chops[y].items(), strict=False):
                if strip is not None and x < x2 and end > x1:
                    first = max(x, x1)
                    found.append((Offset(first, y), strip.crop(first - x, min(end, x2) - x)))
        return found


class TightCompositor(Compositor):
    """A compositor whose partial updates are rendered only where something changed, and cropped on both sides."""

    _changed: tuple[Region, ...] = ()

    def render_partial_update(self) -> ChopsUpdate | None:
        """Return the update for what is dirty, or None if nothing is."""
        self._changed = tuple(self._dirty_regions)
        try:
            update = super().render_partial_update()
        finally:
            self._changed = ()
        return None if update is None else _TightUpdate(update.chops, update.spans, update.chop_ends)

    def _get_renders(self, crop: Region | None = None) -> Iterable[tuple[Region, Region, list[Strip]]]:
        if not self._changed:
            yield from super()._get_renders(crop)
            return
        open_regions = list(self._changed)
        for widget, (region, clip) in self.visible_widgets.items():  # front to back
            shown = region.intersection(clip)
            rows = [changed for changed in open_regions if changed.overlaps(shown)]
            if rows:
                # In their full width, since lines are cut up where widgets end.
                top, bottom = min(one.y for one in rows), max(one.bottom for one in rows)
                part = shown.intersection(Region(shown.x, top, shown.width, bottom - top))
                yield region, part, widget.render_lines(part.translate(-region.offset))
                open_regions = [changed for changed in open_regions if not shown.contains_region(changed)]
            if not open_regions:
                return
