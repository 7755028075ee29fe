"""Fetching data sets and weights from where torchvision gets them: in sight, with a time-out, to be cancelled."""

import hashlib
import http.client
import queue
import threading
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from finetui.engine.errors import Cancelled, FinetuiError, reason_of
from finetui.engine.files import replacing
from finetui.engine.text import clean

CONNECT_SECONDS = 10.0  # for one attempt to connect, and the longest that a connection may stand still
PATIENCE_SECONDS = 30.0  # without a single byte, over all mirrors together
_CHUNK = 64 * 1024
_MOST_BYTES = 2**30  # no data set's file comes near
_POLL_SECONDS = 0.1  # how soon a cancellation is obeyed, whatever the network does

Progress = Callable[[str, int, int], None]


class DownloadError(FinetuiError):
    """No source gave the file."""


def fetch(
    mirrors: Sequence[str],
    name: str,
    digest: str,
    folder: Path,
    *,
    progress: Progress,
    cancelled: Callable[[], bool],
    algorithm: str = "MD5",
    most_bytes: int = _MOST_BYTES,
    seconds: float = CONNECT_SECONDS,
    patience: float = PATIENCE_SECONDS,
) -> Path:
    """Download `name` into `folder` from the first of `mirrors` that has it whole, and return its path.

    `progress("Downloading NAME", done, total)` counts bytes; `total` is 0 where the server does not say it. The file
    appears under its name once its check sum by `algorithm` begins with `digest`. A mirror is given up when it stands
    still for `seconds`, is silent, looking up and connecting included, for its share of `patience`, or sends more than
    `most_bytes`: it must not fill the disk. Raises `Cancelled` once `cancelled` answers True, `DownloadError` when no
    mirror gave the file, OSError when it cannot be written.
    """
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / name
    problem = "no source is known"
    for mirror in mirrors:
        transfer = _Transfer(mirror + name, seconds, patience / len(mirrors))
        found = hashlib.new(algorithm.replace("-", ""), usedforsecurity=False)
        try:
            with replacing(path, synced=False) as file:
                for piece in transfer.pieces(cancelled, most_bytes):
                    file.write(piece)
                    found.update(piece)
                    progress(f"Downloading {name}", file.tell(), transfer.total)
                if not found.hexdigest().startswith(digest):
                    sum_found = f"{algorithm} {found.hexdigest()}"
                    raise DownloadError(f"{mirror} served an unexpected file ({sum_found})")
            return path
        except DownloadError as error:
            problem = str(error)
        finally:
            transfer.abandoned.set()
    raise DownloadError(problem)


@dataclass
class _Transfer:
    """One file on its way, received by a thread of its own.

    Looking up a host and connecting to each of its addresses block for as long as they like, and so does a silent
    server: only beside them can a clock and the person's wish to stop be watched. An abandoned thread ends by itself,
    at the latest with the socket's time-out.
    """

    url: str
    seconds: float
    silence: float
    total: int = 0
    abandoned: threading.Event = field(default_factory=threading.Event)
    _arrived: "queue.Queue[bytes | DownloadError]" = field(default_factory=lambda: queue.Queue(maxsize=8))

    def pieces(self, cancelled: Callable[[], bool], most_bytes: int) -> Iterator[bytes]:
        """Receive it; yield what arrives. Raises `Cancelled`, or `DownloadError` unless it comes whole."""
        threading.Thread(target=self._receive, name="finetui-download", daemon=True).start()
        done = 0
        while piece := self._next_piece(cancelled):
            done += len(piece)
            if done > most_bytes:
                raise DownloadError(f"{self.url} sent far more than expected")
            yield piece
        if done < self.total:
            raise DownloadError(f"{self.url} broke off after {done} of {self.total} bytes")

    def _next_piece(self, cancelled: Callable[[], bool]) -> bytes:
        """Return the next bytes, none at the end. Raises `DownloadError` or `Cancelled`."""
        deadline = time.monotonic() + self.silence
        while True:
            if cancelled():
                raise Cancelled("the download was cancelled")
            try:
                piece = self._arrived.get(timeout=min(_POLL_SECONDS, self.silence))
            except queue.Empty:
                if time.monotonic() < deadline:
                    continue
                raise DownloadError(f"no answer for {self.silence:.0f} seconds") from None
            if isinstance(piece, DownloadError):
                raise piece
            return piece

    def _receive(self) -> None:
        try:
            request = urllib.request.Request(self.url, headers={"User-Agent": "finetui"})
            with urllib.request.urlopen(request, timeout=self.seconds) as response:
                self.total = response.length or 0
                # read1, not read: it gives what is there, where read would wait for a whole chunk.
                while piece := response.read1(_CHUNK):
                    if not self._deliver(piece):
                        return
            self._deliver(b"")
        except (OSError, http.client.HTTPException) as error:
            self._deliver(DownloadError(_reason(error)))

    def _deliver(self, piece: bytes | DownloadError) -> bool:
        """Hand `piece` over; False when nobody wants it any more."""
        while not self.abandoned.is_set():
            try:
                self._arrived.put(piece, timeout=_POLL_SECONDS)
            except queue.Full:
                continue
            return True
        return False


def _reason(error: OSError | http.client.HTTPException) -> str:
    """Return why a transfer failed, in a few words and without an error number."""
    if isinstance(error, urllib.error.HTTPError):
        return reason_of(error)
    cause = getattr(error, "reason", error)  # URLError wraps the error of the socket
    return clean(str(getattr(cause, "strerror", None) or cause) or type(cause).__name__)
