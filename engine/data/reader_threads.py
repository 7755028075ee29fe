"""Images read in batches by threads of this process, which costs no copy to it."""

import threading
import time
from collections.abc import Generator, Sequence
from typing import Any

import numpy.typing as npt
import torch
from torch import Tensor

from finetui.engine.data.split import Source, Unreadable

MOST_THREADS = 8  # with more they would wait for Python's lock, which reading an image needs for a tenth of its time
_LEAVE_SECONDS = 1.0  # for threads to end; one that is stuck in a read is left alone, and ends with the process

Wanted = tuple[int, int | None]  # an image's index, and the seed of what it draws
Problem = tuple[int, str]  # the image's index, what is wrong with it
Loaded = tuple[Tensor, Tensor, list[Problem]]  # images, labels, problems


class _Batch:
    """A batch that is being filled. `left` counts what is not read yet; problems are by place."""

    def __init__(self, wanted: Sequence[Wanted]) -> None:
        self.wanted = wanted
        self.left = len(wanted)
        self.images: Tensor | None = None
        self.problems: dict[int, str] = {}


class ReaderThreads:
    """Threads that read the images of `batches`, at most `ahead` batches before they are asked for.

    An image goes straight to its place in its batch: in `pinned` memory, where a GPU is to copy from there.
    """

    def __init__(
        self, source: Source, batches: Sequence[Sequence[Wanted]], threads: int, ahead: int, *, pinned: bool
    ) -> None:
        self._source = source
        self._plan = batches
        self._ahead = ahead
        self._pinned = pinned
        self._changed = threading.Condition()  # of all that follows
        self._begun: list[_Batch] = []  # those of which images are read, and that nobody has asked for yet
        self._given = 0  # batches
        self._place = 0  # of the next image to read, in the last of those begun
        self._closed = False
        self._error: Exception | None = None
        self._threads = [
            threading.Thread(target=self._work, name=f"finetui-images-{number}", daemon=True)
            for number in range(threads)
        ]

    def batches(self) -> Generator[Loaded, None, None]:
        """Yield each batch, without what is unreadable. Raises what the source raises."""
        for thread in self._threads:
            thread.start()
        try:
            while self._given < len(self._plan):
                yield self._finished(self._next_batch())
        finally:
            self.close()

    def close(self) -> None:
        """End the threads."""
        with self._changed:
            self._closed = True
            self._changed.notify_all()
        until = time.monotonic() + _LEAVE_SECONDS
        for thread in self._threads:
            thread.join(max(0.0, until - time.monotonic()))

    def _next_batch(self) -> _Batch:
        with self._changed:
            self._changed.wait_for(lambda: self._error or (self._begun and not self._begun[0].left))
            if self._error is not None:
                raise self._error
            self._given += 1
            self._changed.notify_all()
            return self._begun.pop(0)

    def _finished(self, batch: _Batch) -> Loaded:
        good = [place for place in range(len(batch.wanted)) if place not in batch.problems]
        problems = [(batch.wanted[place][0], batch.problems[place]) for place in sorted(batch.problems)]
        labels = torch.tensor([int(self._source.labels[batch.wanted[place][0]]) for place in good], dtype=torch.int64)
        if batch.images is None:
            return torch.empty(0, 1, 1, 1), labels, problems
        return batch.images[good] if problems else batch.images, labels, problems

    def _work(self) -> None:
        try:
            while (job := self._job()) is not None:
                self._read(*job)
        except Exception as error:  # noqa: BLE001  # raised where the batch is waited for
            with self._changed:
                self._error = error
                self._changed.notify_all()

    def _job(self) -> tuple[_Batch, int] | None:
        """Return the next image to read once it may be read, as its batch and place; None: nothing is left."""
        with self._changed:
            self._changed.wait_for(lambda: not self._is_taken() or self._is_over() or len(self._begun) < self._ahead)
            if self._is_taken():
                if self._is_over():
                    return None
                self._begun.append(_Batch(self._plan[self._given + len(self._begun)]))
                self._place = 0
            self._place += 1
            return self._begun[-1], self._place - 1

    def _is_taken(self) -> bool:
        """Whether each image of the batches begun is read, or somebody reads it."""
        return self._closed or not self._begun or self._place == len(self._begun[-1].wanted)

    def _is_over(self) -> bool:
        return self._closed or self._error is not None or self._given + len(self._begun) == len(self._plan)

    def _read(self, batch: _Batch, place: int) -> None:
        index, seed = batch.wanted[place]
        try:
            self._put(batch, place, self._source.load(index, seed))
        except Unreadable as problem:
            batch.problems[place] = f"{self._source.describe(index)}: {problem}"
        with self._changed:
            batch.left -= 1
            if not batch.left:
                self._changed.notify_all()

    def _put(self, batch: _Batch, place: int, image: npt.NDArray[Any]) -> None:
        with self._changed:
            if batch.images is None:
                shape = (len(batch.wanted), *image.shape)
                batch.images = torch.empty(shape, dtype=torch.from_numpy(image).dtype, pin_memory=self._pinned)
        batch.images.numpy()[place] = image  # not by torch, which would start threads of its own in each of these
