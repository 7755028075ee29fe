"""What is asked about one image once the cursor rests on it: the image in full, and where the network looked."""

from collections.abc import Callable

import numpy as np
import numpy.typing as npt

from finetui.engine.predictions.images import pixels
from finetui.engine.protocol.commands import EXPLANATIONS, ExplainImage, FetchImages
from finetui.engine.protocol.events import CommandRefused, Explained, Images
from finetui.engine.protocol.values import AnyPart
from finetui.tui.queries.asker import Asker, Reply

_METHODS = ("", *EXPLANATIONS)
_LARGE = 640  # pixels


class ImageDetail:
    """Knows more about one image at a time; `on_change` is told when there is something new."""

    def __init__(self, asker: Asker, on_change: Callable[[], None]) -> None:
        self._asker = asker
        self._on_change = on_change
        self._index = -1
        self._image: npt.NDArray[np.uint8] | None = None
        self._explained: Explained | CommandRefused | None = None
        self.method = ""
        self.part: AnyPart = ""

    def of(self, part: AnyPart) -> None:
        """Be about images of `part` from now on."""
        if part != self.part:
            self.part, self._index = part, -1

    def next_method(self) -> None:
        """Explain by the next method; after the last, not at all."""
        self.method = _METHODS[(_METHODS.index(self.method) + 1) % len(_METHODS)]
        self._explained = None

    def end_explaining(self) -> bool:
        """Explain no more, nor wait for it; return whether there was something to end."""
        explained, self.method, self._explained = bool(self.method), "", None
        return explained

    def ask(self, index: int, target: int, *, in_full: bool) -> None:
        """Look at image `index`: ask for it `in_full`, and for what speaks for `target`, if not known yet."""
        if index != self._index:
            self._index, self._image, self._explained = index, None, None
        if in_full and self._image is None:
            self._asker.ask(FetchImages(indices=(index,), side=_LARGE, part=self.part), self._arrived)
        if self.method and self._explained is None:
            self._asker.ask(ExplainImage(index=index, method=self.method, target=target, part=self.part), self._arrived)

    def _arrived(self, reply: Reply) -> None:
        """Take an answer, unless the cursor has gone on."""
        asked = reply.command
        if isinstance(asked, FetchImages | ExplainImage) and asked.part != self.part:
            return
        if isinstance(asked, FetchImages) and isinstance(reply, Images) and asked.indices == (self._index,):
            shown = reply.pictures[0]
            self._image = None if shown.problem else pixels(shown)
        elif isinstance(asked, ExplainImage) and (asked.index, asked.method) == (self._index, self.method):
            self._explained = reply if isinstance(reply, Explained | CommandRefused) else None
        else:
            return
        self._on_change()

    def image(self, index: int) -> npt.NDArray[np.uint8] | None:
        """Return image `index` in full, if it is there."""
        return self._image if index == self._index else None

    def overlay(self, index: int) -> npt.NDArray[np.float32] | None:
        """Return what speaks for and against the class, `[h, w]` from -1 to 1, if it is there."""
        found = self.explained(index)
        if not isinstance(found, Explained):
            return None
        return np.frombuffer(found.values, dtype="<f4").reshape(found.height, found.width)

    def explained(self, index: int) -> Explained | CommandRefused | None:
        """Return what is known of why image `index` was predicted as it was; None while nothing is."""
        return self._explained if self.method and index == self._index else None
