"""Rendering only the lines that changed, and all of those.

Textual 8 has every widget within the box around all that changed render all of its lines; here it is those lines that
changed, and none of what lies behind a widget that covers all of a change. And it forgets what a widget that has moved
leaves behind, where its map is made anew between two layouts: of a toast that went some lines stayed. It relies on
private names of Textual's; `tests/tui/test_textual_overrides.py` fails where they change.
"""

import time
from collections.abc import Iterable, Mapping

from textual._compositor import ChopsUpdate, Compositor, ReflowResult
from textual.geometry import Region, Size
from textual.strip import Strip
from textual.widget import Widget

_LINES = 4  # that are rendered together: each call has its own cost


class TightCompositor(Compositor):
    """A compositor whose partial updates are rendered only where something changed."""

    _changed: tuple[Region, ...] = ()
    _laid_out: Mapping[Widget, Region] = {}  # what is seen of each widget, by the last layout

    def reflow(self, parent: Widget, size: Size) -> ReflowResult:
        """Lay out all widgets."""
        result = super().reflow(parent, size)
        # Textual does this next, and then lays all out again where any of them has more or less to scroll than before.
        for widget, (region, _order, _clip, virtual_size, container_size, *_) in self.layers:
            widget._size_updated(region.size, virtual_size, container_size, layout=False)
        self._mark_moved()
        return result

    def reflow_visible(self, parent: Widget, size: Size) -> set[Widget]:
        """Lay out those that can be seen, after one was scrolled."""
        exposed = super().reflow_visible(parent, size)
        self._mark_moved()
        return exposed

    def _mark_moved(self) -> None:
        before = self._laid_out
        self._laid_out = now = {
            widget: region.intersection(clip) for widget, (region, clip) in self.visible_widgets.items()
        }
        moved = (widget for widget in before.keys() | now.keys() if before.get(widget) != now.get(widget))
        both = (where.get(widget) for widget in moved for where in (before, now))
        self._dirty_regions.update(region for region in both if region)

    def prepare(self, seconds: float) -> bool:
        """Render what has changed for about so many `seconds` of processor time; return whether there is time to paint.

        What is rendered is kept by the widgets: the update that follows only puts it together.
        """
        end = time.thread_time() + seconds
        changed = [region for region in self._dirty_regions if region]
        for widget, (region, clip) in self.visible_widgets.items():
            shown = region.intersection(clip)
            rows = [one for one in changed if one.overlaps(shown)]
            if not rows or widget.BLANK:  # of which nothing is kept, nor costs anything
                continue
            top, bottom = max(min(one.y for one in rows), shown.y), min(max(one.bottom for one in rows), shown.bottom)
            lines = widget._styles_cache
            for y in range(top, bottom, _LINES):
                part = Region(shown.x, y, shown.width, min(_LINES, bottom - y)).translate(-region.offset)
                if lines._width == region.width and all(
                    at in lines._cache and not lines.is_dirty(at) for at in part.line_range
                ):
                    continue
                if time.thread_time() > end:
                    return False
                widget.render_lines(part)
        return time.thread_time() < end - seconds / 2

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
