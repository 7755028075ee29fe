"""Fetching MNIST and Fashion-MNIST from where torchvision gets them: in sight, with a time-out, to be cancelled."""

import hashlib
import http.client
import urllib.error
import urllib.request
from collections.abc import Callable, Iterable
from pathlib import Path

from engine.errors import Cancelled, FinetuiError
from engine.text import clean

CONNECT_SECONDS = 10.0  # also the longest that a transfer may stand still
_CHUNK = 64 * 1024

Progress = Callable[[str, int, int], None]


class DownloadError(FinetuiError):
    """No source gave the file."""


def fetch(
    mirrors: Iterable[str],
    name: str,
    md5: str,
    folder: Path,
    *,
    progress: Progress,
    cancelled: Callable[[], bool],
    seconds: float = CONNECT_SECONDS,
) -> Path:
    """Download `name` into `folder` from the first of `mirrors` that has it whole, and return its path.

    `progress("Downloading NAME", done, total)` counts bytes. The file appears under its name once its MD5 sum is
    right. Raises `Cancelled` once `cancelled` answers True, `DownloadError` when no mirror gave it, OSError when it
    cannot be written.
    """
    folder.mkdir(parents=True, exist_ok=True)
    temporary = folder / f".{name}.part"
    problem = "no source is known"
    try:
        for mirror in mirrors:
            try:
                found = _transfer(mirror + name, temporary, seconds, name, progress, cancelled)
            except (urllib.error.URLError, http.client.HTTPException, TimeoutError, ConnectionError) as error:
                problem = clean(str(getattr(error, "reason", error)))
                continue
            if found == md5:
                return temporary.replace(folder / name)
            problem = f"{clean(mirror)} gave another file than expected (MD5 {found})"
    finally:
        temporary.unlink(missing_ok=True)
    raise DownloadError(problem)


def _transfer(
    url: str, path: Path, seconds: float, name: str, progress: Progress, cancelled: Callable[[], bool]
) -> str:
    """Write what `url` gives to `path` and return its MD5 sum."""
    digest = hashlib.md5(usedforsecurity=False)
    request = urllib.request.Request(url, headers={"User-Agent": "finetui"})
    with urllib.request.urlopen(request, timeout=seconds) as response, path.open("wb") as file:
        total, done = int(response.headers.get("Content-Length") or 0), 0
        while piece := response.read(_CHUNK):
            if cancelled():
                raise Cancelled("the download was cancelled")
            file.write(piece)
            digest.update(piece)
            done += len(piece)
            progress(f"Downloading {name}", done, total)
    return digest.hexdigest()
