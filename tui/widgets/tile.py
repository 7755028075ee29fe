"""What a grid of thumbnails is given to show."""

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from textual.content import Content


@dataclass(frozen=True, eq=False)
class Tile:
    """What is known of one position: an image, uint8 `[H, W, 1 or 3]`, or what is wrong with it, and its caption.

    The caption is `lines`, or where one of these is wider than the thumbnail, `folded`, of which the last but one takes
    as many lines as it needs and as there are.
    """

    image: npt.NDArray[np.uint8] | None
    lines: tuple[Content, ...] = ()
    folded: tuple[Content, ...] = ()
    marked: bool = False
    problem: str = ""

    def same_as(self, other: "Tile") -> bool:
        """Tell whether both look the same; images are not compared but by identity."""
        words = (self.lines, self.folded, self.marked, self.problem)
        return words == (other.lines, other.folded, other.marked, other.problem) and self.image is other.image

    def caption(self, width: int, height: int) -> list[Content]:
        """Return the caption in `height` lines, as far as possible of `width` cells."""
        if not self.folded or all(line.cell_length <= width for line in self.lines):
            return list(self.lines)
        *first, long, last = self.folded
        parts = long.wrap(width) if long.cell_length > width else [long]
        room = max(height - len(first) - 1, 1)
        if len(parts) > room:
            rest = Content(" ").join(parts[room - 1 :])
            parts = [*parts[: room - 1], rest]
        return [*first, *parts, last]
