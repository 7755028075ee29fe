"""Rendering only the lines that changed.

Textual 8 has every widget within the box around all that changed render all of its lines; here it is those lines that
changed, and none of what lies behind a widget that covers all of a change. It relies on private names of Textual's;
`tests/tui/test_textual_overrides.py` fails where they change.
"""

from collections.abc import Iterable

from textual._compositor import ChopsUpdate, Compositor
from textual.geometry import Region
from textual.strip import Strip


class TightCompositor(Compositor):
    """A compositor whose partial updates are rendered only where something changed."""

    _changed: tuple[Region, ...] = ()

    def render_partial_update(self) -> ChopsUpdate | None:
        """Return the update for what is dirty, or None if nothing is."""
        self._changed = tuple(self._dirty_regions)
        try:
            return super().render_partial_update()
        finally:
            self._changed = ()

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
