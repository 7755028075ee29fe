"""Downloading, from a server on this machine."""

import hashlib
import http.server
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from engine.data.download import DownloadError, fetch
from engine.errors import Cancelled

CONTENT = bytes(range(256)) * 4000
MD5 = hashlib.md5(CONTENT).hexdigest()


class Handler(http.server.BaseHTTPRequestHandler):
    def do_GET(self) -> None:
        if self.path.startswith("/missing/"):
            self.send_error(404)
            return
        self.send_response(200)
        self.send_header("Content-Length", str(len(CONTENT)))
        self.end_headers()
        if self.path.startswith("/stall/"):
            self.wfile.write(CONTENT[:1000])
            self.wfile.flush()
            self.server.released.wait(10)
        elif self.path.startswith("/cut/"):
            self.wfile.write(CONTENT[:1000])
        elif self.path.startswith("/wrong/"):
            self.wfile.write(CONTENT[::-1])
        else:
            self.wfile.write(CONTENT)

    def log_message(self, *_args: object) -> None:
        pass


@pytest.fixture
def server() -> Iterator[str]:
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler) as running:
        running.daemon_threads = True
        running.released = threading.Event()
        threading.Thread(target=running.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{running.server_address[1]}"
        running.released.set()
        running.shutdown()


def get(mirrors: list[str], folder: Path, **options) -> Path:
    defaults = {"progress": lambda *_: None, "cancelled": lambda: False, "seconds": 0.5}
    return fetch(mirrors, "file.gz", MD5, folder, **(defaults | options))


def test_a_file_arrives_whole_with_its_progress(server: str, tmp_path: Path) -> None:
    seen = []
    path = get([f"{server}/good/"], tmp_path / "new", progress=lambda *what: seen.append(what))
    assert path.read_bytes() == CONTENT
    assert seen[-1] == ("Downloading file.gz", len(CONTENT), len(CONTENT))
    assert [done for _, done, _ in seen] == sorted(done for _, done, _ in seen)
    assert len(seen) > 3


@pytest.mark.parametrize("bad", ["missing", "wrong", "stall", "cut"])
def test_the_next_mirror_is_tried(server: str, tmp_path: Path, bad: str) -> None:
    assert get([f"{server}/{bad}/", f"{server}/good/"], tmp_path).read_bytes() == CONTENT
    assert [path.name for path in tmp_path.iterdir()] == ["file.gz"]


@pytest.mark.parametrize("bad", ["missing", "wrong", "stall", "cut"])
def test_without_a_good_mirror_nothing_is_left(server: str, tmp_path: Path, bad: str) -> None:
    started = time.monotonic()
    with pytest.raises(DownloadError):
        get([f"{server}/{bad}/"], tmp_path)
    assert time.monotonic() - started < 8
    assert list(tmp_path.iterdir()) == []


def test_a_refused_connection_is_a_download_error(tmp_path: Path) -> None:
    with pytest.raises(DownloadError, match="refused"):
        get(["http://127.0.0.1:9/"], tmp_path)


def test_it_can_be_cancelled(server: str, tmp_path: Path) -> None:
    seen = []
    with pytest.raises(Cancelled):
        get([f"{server}/good/"], tmp_path, progress=lambda *what: seen.append(what), cancelled=lambda: len(seen) >= 2)
    assert len(seen) == 2
    assert list(tmp_path.iterdir()) == []
