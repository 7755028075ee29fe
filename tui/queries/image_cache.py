"""Images on their way from the engine to the screen: asked for by the page, and a bounded number kept."""

import threading
from collections import OrderedDict
from collections.abc import Callable, Iterable, Sequence

import numpy as np
import numpy.typing as npt
from textual.app import App
from textual.worker import get_current_worker

from finetui.engine.errors import FinetuiError
from finetui.engine.predictions.images import pixels
from finetui.engine.protocol.commands import FetchImages
from finetui.engine.protocol.events import CommandRefused, Images
from finetui.engine.protocol.values import AnyPart
from finetui.tui.queries.asker import Asker, Reply

Image = npt.NDArray[np.uint8]
_KEPT = 1024
_ASKED = 48  # images in one question: a screenful
_LOOK_SECONDS = 0.2


def fetch_all(app: App[None], asker: Asker, part: AnyPart, indices: Sequence[int]) -> list[Image | str]:
    """Return the images `indices` of `part` in full, or what is wrong with them; called from a thread, which waits."""
    arrived = threading.Event()
    replies: list[Reply] = []

    def take(reply: Reply) -> None:
        replies.append(reply)
        arrived.set()

    app.call_from_thread(asker.ask, FetchImages(indices=tuple(indices), part=part), take)
    worker = get_current_worker()
    while not arrived.wait(_LOOK_SECONDS):
        if worker.is_cancelled:
            raise FinetuiError("the export was canceled")
    (reply,) = replies
    if isinstance(reply, CommandRefused):
        raise FinetuiError(f"the images could not be loaded: {reply.reason}")
    assert isinstance(reply, Images)
    return [picture.problem or pixels(picture) for picture in reply.pictures]


class ImageCache:
    """Images by their place in `part`, reduced to `side` pixels; `on_images(indices)` is told of new ones."""

    def __init__(self, asker: Asker, side: int, on_images: Callable[[list[int]], None]) -> None:
        self._asker = asker
        self._side = side
        self._on_images = on_images
        self._found: OrderedDict[int, Image | str] = OrderedDict()
        self._waiting: set[int] = set()
        self.part: AnyPart = ""

    def of(self, part: AnyPart) -> None:
        """Hold images of `part` from now on."""
        if part != self.part:
            self.part = part
            self._found.clear()
            self._waiting.clear()

    def get(self, index: int) -> Image | str | None:
        """Return the image, uint8 `[H, W, C]`; why there is none; or None while nobody knows."""
        found = self._found.get(index)
        if found is not None:
            self._found.move_to_end(index)
        return found

    def need(self, indices: Iterable[int]) -> None:
        """Ask for those of `indices` that are neither here nor on their way."""
        missing = [index for index in indices if index not in self._found and index not in self._waiting]
        for start in range(0, len(missing), _ASKED):
            part = missing[start : start + _ASKED]
            self._waiting.update(part)
            question = FetchImages(indices=tuple(part), side=self._side, part=self.part)
            self._asker.ask(question, self._arrived)

    def _arrived(self, reply: Reply) -> None:
        asked = reply.command
        assert isinstance(asked, FetchImages)
        if asked.part != self.part:
            return
        self._waiting.difference_update(asked.indices)
        if isinstance(reply, Images):
            for picture in reply.pictures:
                self._keep(picture.index, picture.problem or pixels(picture))
        elif isinstance(reply, CommandRefused):
            for index in asked.indices:
                self._keep(index, reply.reason)
        self._on_images(list(asked.indices))

    def _keep(self, index: int, found: Image | str) -> None:
        self._found[index] = found
        while len(self._found) > _KEPT:
            self._found.popitem(last=False)
