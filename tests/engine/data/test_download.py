"""Downloading, from a server on this machine."""

import functools
import hashlib
import http.server
import socket
import threading
import time
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
from torchvision import datasets

from finetui.engine.data import mnist
from finetui.engine.data.download import DownloadError, fetch
from finetui.engine.data.mnist import load
from finetui.engine.errors import BadInput, Cancelled
from finetui.engine.runs import data_places

CPU = torch.device("cpu")
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
        elif self.path.startswith("/trickle/"):
            while not self.server.released.wait(0.05):
                self.wfile.write(b"x")
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
        threading.Thread(target=running.serve_forever, args=(0.02,), daemon=True).start()
        yield f"http://127.0.0.1:{running.server_address[1]}"
        running.released.set()
        running.shutdown()


@pytest.fixture
def refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    """The address of a port on this machine that nothing listens on; nor do packages bring the data."""
    monkeypatch.setattr(data_places, "_PACKAGED", tmp_path / "packaged")
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        return f"http://127.0.0.1:{free.getsockname()[1]}/"


def get(mirrors: list[str], folder: Path, **options) -> Path:
    defaults = {"progress": lambda *_: None, "cancelled": lambda: False, "seconds": 20, "patience": 60}
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
    seconds = 2 if bad == "stall" else 20
    assert get([f"{server}/{bad}/", f"{server}/good/"], tmp_path, seconds=seconds).read_bytes() == CONTENT
    assert [path.name for path in tmp_path.iterdir()] == ["file.gz"]


@pytest.mark.parametrize("bad", ["missing", "wrong", "stall", "cut"])
def test_without_a_good_mirror_nothing_is_left(server: str, tmp_path: Path, bad: str) -> None:
    says = {
        "missing": "404",
        "wrong": "an unexpected file",
        "stall": "timed out",
        "cut": "broke off after 1000 of 1024000",
    }
    with pytest.raises(DownloadError, match=says[bad]):
        get([f"{server}/{bad}/"], tmp_path, seconds=1 if bad == "stall" else 20)
    assert list(tmp_path.iterdir()) == []


def test_a_refused_connection_is_a_download_error(tmp_path: Path, refused: str) -> None:
    with pytest.raises(DownloadError, match="refused"):
        get([refused], tmp_path)


def test_it_can_be_cancelled(server: str, tmp_path: Path) -> None:
    seen = []
    with pytest.raises(Cancelled):
        get([f"{server}/good/"], tmp_path, progress=lambda *what: seen.append(what), cancelled=lambda: len(seen) >= 2)
    assert len(seen) == 2
    assert list(tmp_path.iterdir()) == []


def test_patience_is_shared_by_the_mirrors_and_includes_looking_up(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A name server that never answers has no time-out of its own."""
    release = threading.Event()

    def never(*_args: object, **_options: object) -> None:
        release.wait(10)
        raise OSError("released")

    monkeypatch.setattr(urllib.request, "urlopen", never)
    with pytest.raises(DownloadError, match=r"no answer for 1 seconds"):  # of the two that are waited for in all
        get(["http://a/", "http://b/"], tmp_path, patience=2)
    release.set()


@pytest.mark.parametrize("how", ["stall", "trickle"])
def test_a_cancellation_does_not_wait_for_the_network(server: str, tmp_path: Path, how: str) -> None:
    started = time.monotonic()
    with pytest.raises(Cancelled):
        get([f"{server}/{how}/"], tmp_path, seconds=90, cancelled=lambda: time.monotonic() > started + 0.3)
    assert list(tmp_path.iterdir()) == []


def test_a_slow_server_is_not_a_silent_one(server: str, tmp_path: Path) -> None:
    seen, end = [], time.monotonic() + 2
    with pytest.raises(Cancelled):
        get(
            [f"{server}/trickle/"],
            tmp_path,
            seconds=1.5,
            patience=1.5,
            progress=lambda *what: seen.append(what),
            cancelled=lambda: time.monotonic() > end and len(seen) > 15,
        )
    assert seen[0][1] < 100  # each byte is reported as it comes


def test_a_file_without_end_is_given_up(server: str, tmp_path: Path) -> None:
    with pytest.raises(DownloadError, match="sent far more than expected"):
        get([f"{server}/good/"], tmp_path, most_bytes=100_000)
    assert list(tmp_path.iterdir()) == []


def test_two_processes_do_not_share_a_temporary_file(server: str, tmp_path: Path) -> None:
    other = tmp_path / ".file.gz.1.tmp"
    other.write_bytes(b"being written by another process")
    get([f"{server}/good/"], tmp_path)
    assert other.read_bytes() == b"being written by another process"


def test_the_threads_end(server: str, tmp_path: Path) -> None:
    with pytest.raises(DownloadError):
        get([f"{server}/stall/", f"{server}/wrong/"], tmp_path, seconds=1)
    deadline = time.monotonic() + 30
    while any(thread.name == "finetui-download" for thread in threading.enumerate()):
        assert time.monotonic() < deadline
        time.sleep(0.02)


class SampleHandler(http.server.SimpleHTTPRequestHandler):
    def log_message(self, *_args: object) -> None:
        pass


def test_a_data_set_comes_from_torchvisions_mirrors_and_stays(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, refused: str
) -> None:
    files = sorted(mnist.SAMPLE_FOLDER.glob("*.gz"))
    monkeypatch.setattr(
        datasets.FashionMNIST, "resources", [(file.name, hashlib.md5(file.read_bytes()).hexdigest()) for file in files]
    )
    phases = []
    handler = functools.partial(SampleHandler, directory=mnist.SAMPLE_FOLDER)
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as running:
        threading.Thread(target=running.serve_forever, args=(0.02,), daemon=True).start()
        here = f"http://127.0.0.1:{running.server_address[1]}/"
        monkeypatch.setattr(datasets.FashionMNIST, "mirrors", [refused, here])
        data = load("fashion-mnist", None, CPU, progress=lambda phase, *_: phases.append(phase))
        running.shutdown()
    assert (data.name, len(data.train), data.notices) == ("fashion-mnist", 4000, ())
    assert {f"Downloading {file.name}" for file in files} <= set(phases)
    assert phases[-1] == "Reading Fashion-MNIST"
    monkeypatch.setattr(datasets.FashionMNIST, "mirrors", [refused])
    assert load("fashion-mnist", None, CPU).location == data.location  # from the cache


def test_all_mirrors_refused(monkeypatch: pytest.MonkeyPatch, refused: str) -> None:
    for source in (datasets.MNIST, datasets.FashionMNIST):
        monkeypatch.setattr(source, "mirrors", [refused, refused])
    started = time.monotonic()
    data = load("mnist", None, CPU)
    assert (data.name, len(data.train), len(data.test)) == ("mnist-sample", 4000, 1000)
    assert "refused" in data.notices[0]
    with pytest.raises(BadInput, match=r"looked in .*finetui/data.*refused.*--data-dir"):
        load("fashion-mnist", None, CPU)
    assert time.monotonic() - started < 20


def test_a_cancelled_download_is_no_reason_for_the_bundled_digits(
    monkeypatch: pytest.MonkeyPatch, refused: str
) -> None:
    monkeypatch.setattr(datasets.MNIST, "mirrors", [refused])
    with pytest.raises(Cancelled):
        load("mnist", None, CPU, cancelled=lambda: True)
