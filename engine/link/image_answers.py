"""Images that a person's own loop gave with its predictions, fetched in a thread."""

import threading
from collections import deque
from collections.abc import Callable
from pathlib import Path

from finetui.engine.errors import BadInput, FinetuiError, describe
from finetui.engine.predictions import given_images
from finetui.engine.protocol.commands import FetchImages
from finetui.engine.protocol.events import CommandRefused, Images
from finetui.engine.protocol.values import AnyPart


class ImageAnswers:
    """Answers questions about images to `put`; `file_of(part)` says which file of predictions they are about, if any.

    The thread begins with the first question.
    """

    def __init__(
        self, file_of: Callable[[AnyPart], Path | None], put: Callable[[Images | CommandRefused], None]
    ) -> None:
        self._file_of, self._put = file_of, put
        self._waiting: deque[FetchImages] = deque()
        self._news = threading.Condition()
        self._closed = False
        self._thread: threading.Thread | None = None

    def ask(self, question: FetchImages) -> None:
        """Have `question` answered; never blocks."""
        with self._news:
            if self._closed:
                return
            self._waiting.append(question)
            if self._thread is None:
                self._thread = threading.Thread(target=self._run, name="finetui-images", daemon=True)
                self._thread.start()
            self._news.notify()

    def close(self) -> None:
        """End the thread; what waits is not answered any more."""
        with self._news:
            self._closed = True
            self._news.notify()
        if self._thread is not None:
            self._thread.join()

    def _run(self) -> None:
        while True:
            with self._news:
                while not self._waiting and not self._closed:
                    self._news.wait()
                if self._closed:
                    return
                question = self._waiting.popleft()
            self._put(self._answer(question))

    def _answer(self, question: FetchImages) -> Images | CommandRefused:
        path = self._file_of(question.part)
        try:
            if path is None:
                raise BadInput("the loop has logged no predictions for these images")
            return given_images.answer(question, path)
        except FinetuiError as error:
            return CommandRefused(command=question, reason=str(error))
        except Exception as error:  # noqa: BLE001  # a person's files of any kind are read here
            return CommandRefused(command=question, reason=describe(error))
