"""Files of the Hugging Face hub: from its cache on this machine, or downloaded to it, in sight and with a time-out.

`HF_HOME`, `HF_HUB_CACHE`, `HF_HUB_OFFLINE`, `HF_ENDPOINT` and the token of `hf auth login` are the hub's own, and hold.
"""

import logging
import queue
import threading
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any, Self

from finetui.engine.data.download import CONNECT_SECONDS, PATIENCE_SECONDS, Progress
from finetui.engine.errors import BadInput, Cancelled, FinetuiError, reason_of
from finetui.engine.models.hub_models import library

_POLL_SECONDS = 0.1  # how soon a cancellation is obeyed, whatever the network does


class NotInRepository(FinetuiError):
    """The repository is there, and has no such file."""


class Repository:
    """A repository of models on the hub, ORG/NAME, or a folder on this machine with the same files in it.

    All files are of one commit: that of the first one. `model` is what the person named.
    """

    def __init__(
        self,
        model: str,
        where: str | Path,
        progress: Progress,
        cancelled: Callable[[], bool],
        patience: float = PATIENCE_SECONDS,
    ) -> None:
        self._model = model
        self._where = where
        self.progress = progress
        self.cancelled = cancelled
        self._patience = patience
        self._commit: str | None = None

    def at(self, where: str) -> "Repository":
        """Return the repository `where` of the hub, with the same patience."""
        return Repository(self._model, where, self.progress, self.cancelled, self._patience)

    def file(self, *names: str) -> Path:
        """Return the first of the files `names` that is there. Raises `NotInRepository`, `BadInput` and `Cancelled`."""
        for name in names:
            found = self._local(name) if isinstance(self._where, Path) else self._of_hub(name, self._where)
            if found is not None:
                return found
        raise NotInRepository(f"{self._where} has no {' and no '.join(names)}")

    def _local(self, name: str) -> Path | None:
        assert isinstance(self._where, Path)
        if not self._where.is_dir():
            raise BadInput(f"model.name (--model): there is no folder {self._where}")
        return path if (path := self._where / name).is_file() else None

    def _of_hub(self, name: str, repository: str) -> Path | None:
        hub: Any = library("huggingface_hub", self._model)
        logging.getLogger("huggingface_hub").setLevel(logging.ERROR)  # what fails is said once, by whoever catches it
        # What is here is used, also where there is another by now: a run that is done again has what it had.
        kept = hub.try_to_load_from_cache(repository, name, revision=self._commit)
        if kept is not None and not isinstance(kept, str):
            return None  # the hub has said that there is none
        path = Path(kept) if kept is not None else self._download(hub, name, repository)
        if path is not None:
            self._commit = path.parent.name
        return path

    def _download(self, hub: Any, name: str, repository: str) -> Path | None:
        missing = f"{repository} ({name}) is not on this machine (looked in {hub.constants.HF_HUB_CACHE})"
        if hub.constants.HF_HUB_OFFLINE:
            raise BadInput(f"{missing}, and HF_HUB_OFFLINE forbids downloading it; {_ELSE}")
        transfer = _Transfer(hub, repository, name, self._commit)
        try:
            return transfer.run(self.progress, self.cancelled, self._patience)
        except hub.errors.LocalEntryNotFoundError as error:
            raise BadInput(f"{missing}, and {hub.constants.ENDPOINT} cannot be reached; {_ELSE}") from error
        except hub.errors.EntryNotFoundError:
            return None
        except hub.errors.GatedRepoError as error:
            raise BadInput(
                f"{repository} is gated: request access on its page, then log in with `hf auth login`"
            ) from error
        except hub.errors.RepositoryNotFoundError as error:
            raise BadInput(
                f"model.name (--model): the Hugging Face hub has no model {repository}, or it is private and needs "
                "`hf auth login`"
            ) from error
        except (BadInput, Cancelled):
            raise
        except Exception as error:  # what its transport raises is of another library in each of its versions
            raise BadInput(f"{missing}, and could not be downloaded ({reason_of(error)}); {_ELSE}") from error


_ELSE = (
    "download it where there is a network and copy it, then name the folder: hf:./FOLDER, or the file: --weights FILE"
)


class _Silent(FinetuiError):
    """Nothing came for too long."""


class _Abandoned(Exception):
    """Ends a download that nobody waits for any more, from within."""


class _Transfer:
    """One file on its way, received by huggingface_hub in a thread of its own: a clock and a wish to stop are watched
    beside it. An abandoned one ends with the next piece that comes, at the latest with the socket's time-out.
    """

    def __init__(self, hub: Any, repository: str, name: str, commit: str | None) -> None:
        self._hub = hub
        self._what = repository, name, commit
        self._done = self._total = 0
        self._abandoned = threading.Event()
        self._answer: queue.Queue[Path | BaseException] = queue.Queue()

    def run(self, progress: Progress, cancelled: Callable[[], bool], patience: float) -> Path:
        """Return the file, or raise what huggingface_hub does, `_Silent` or `Cancelled`."""
        threading.Thread(target=self._receive, name="finetui-download", daemon=True).start()
        told, last = -1, time.monotonic()
        try:
            while True:
                try:
                    found = self._answer.get(timeout=_POLL_SECONDS)
                except queue.Empty:
                    found = None
                if self._done != told and self._total:
                    told, last = self._done, time.monotonic()
                    progress(f"Downloading {self._what[1]}", told, self._total)
                if isinstance(found, BaseException):
                    raise found
                if found is not None:
                    return found
                if cancelled():
                    raise Cancelled("the download was cancelled")
                if time.monotonic() - last > patience:
                    raise _Silent(f"no answer for {patience:.0f} seconds")
        finally:
            self._abandoned.set()

    def _receive(self) -> None:
        repository, name, commit = self._what
        try:
            path = self._hub.hf_hub_download(
                repository, name, revision=commit, etag_timeout=CONNECT_SECONDS, tqdm_class=partial(_Bar, self.received)
            )
            self._answer.put(Path(path))
        except Exception as error:  # noqa: BLE001  # whatever it is, whoever waits raises it
            self._answer.put(error)

    def received(self, done: float, total: float) -> None:
        """Note that `done` of `total` bytes are there. Raises `_Abandoned` once nobody waits for them."""
        if self._abandoned.is_set():
            raise _Abandoned
        self._done, self._total = max(self._done, int(done)), int(total)  # one of several bars, perhaps


class _Bar:
    """What huggingface_hub takes for a progress bar: it counts, and draws nothing."""

    def __init__(
        self,
        received: Callable[[float, float], None],
        *_arguments: Any,
        total: float | None = None,
        initial: float = 0,
        **_options: Any,
    ) -> None:
        self._received = received
        self.n, self.total = initial, total

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_error: object) -> None:
        self.close()

    def update(self, count: float | None = 1) -> None:
        """Count `count` more bytes."""
        self.n += count or 0
        self._received(self.n, self.total or 0)

    def set_description(self, *_words: Any, **_options: Any) -> None: ...

    def refresh(self, *_arguments: Any, **_options: Any) -> None: ...

    def close(self) -> None: ...
