"""Where sockets live, who may be at the other end, and what is cleared away."""

import os
import socket
import subprocess
import sys
from pathlib import Path

import pytest

from finetui.engine.errors import BadInput
from finetui.engine.link import sockets


@pytest.fixture
def runtime(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Return a runtime folder as a login gives it."""
    folder = tmp_path / "run"
    folder.mkdir(mode=0o700)
    monkeypatch.setenv("XDG_RUNTIME_DIR", str(folder))
    monkeypatch.setattr(sockets.tempfile, "gettempdir", lambda: str(tmp_path))
    return folder


def test_the_folder_is_private(runtime: Path) -> None:
    previous = os.umask(0)
    try:
        folder = sockets.runtime_folder()
        assert folder == runtime / "finetui"
        assert folder.stat().st_mode & 0o777 == 0o700
        with sockets.listen(sockets.new_path()):
            (file,) = folder.iterdir()
            assert file.stat().st_mode & 0o077 == 0
    finally:
        os.umask(previous)
    folder.chmod(0o755)
    with pytest.raises(BadInput, match="not private to you; remove it or set XDG_RUNTIME_DIR"):
        sockets.runtime_folder()


@pytest.mark.parametrize("kind", ["unset", "missing", "relative", "deep", "somebody else's"])
def test_a_runtime_folder_of_no_use_gives_way_to_the_temporary_one(
    runtime: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, kind: str
) -> None:
    if kind == "unset":
        monkeypatch.delenv("XDG_RUNTIME_DIR")
    elif kind == "somebody else's":
        monkeypatch.setattr(sockets.os, "geteuid", lambda: os.getuid() + 1)
        with pytest.raises(BadInput, match=f"finetui-{os.getuid() + 1} for sockets is not private"):
            sockets.runtime_folder()  # the temporary folder it makes is this user's as well
        return
    else:
        deep = runtime / ("d" * 90)
        deep.mkdir()
        place = {"missing": runtime / "gone", "relative": Path("run"), "deep": deep}[kind]
        monkeypatch.setenv("XDG_RUNTIME_DIR", str(place))
    folder = sockets.runtime_folder()
    assert folder == tmp_path / f"finetui-{os.getuid()}"
    assert folder.stat().st_mode & 0o777 == 0o700


def test_a_path_always_fits(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    deep = tmp_path / ("d" * 60) / ("e" * 60)
    deep.mkdir(parents=True)
    monkeypatch.setenv("XDG_RUNTIME_DIR", str(deep))
    monkeypatch.setattr(sockets.tempfile, "gettempdir", lambda: str(deep))
    monkeypatch.setattr(sockets.os, "getpid", lambda: 4_194_304)  # the largest there is
    path = sockets.new_path()
    assert path.parent == Path(f"/tmp/finetui-{os.getuid()}")
    assert len(os.fsencode(path)) <= 107
    # The longest folder that is taken leaves room for the longest name.
    room = sockets.LONGEST_PATH - len("/4194304-01234567.sock") - len("/finetui")
    longest = tmp_path / ("x" * (room - len(str(tmp_path)) - 1))
    longest.mkdir(mode=0o700)
    monkeypatch.setenv("XDG_RUNTIME_DIR", str(longest))
    path = sockets.new_path()
    assert path.parent == longest / "finetui"
    with sockets.listen(path), sockets.connect(str(path)):
        pass


@pytest.mark.parametrize("kind", ["link", "file"])
def test_what_lies_in_the_place_of_the_folder_is_not_trusted(
    runtime: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, kind: str
) -> None:
    monkeypatch.delenv("XDG_RUNTIME_DIR")
    place = tmp_path / f"finetui-{os.getuid()}"
    if kind == "link":
        place.symlink_to(runtime)
    else:
        place.touch(mode=0o600)
    if kind == "file":
        assert sockets.runtime_folder() == Path(f"/tmp/finetui-{os.getuid()}")
        return
    with pytest.raises(BadInput, match="is not private to you"):
        sockets.runtime_folder()


def test_sockets_of_engines_that_are_gone_are_removed_and_others_stay(runtime: Path) -> None:
    code = "import os, sys, socket; s = socket.socket(socket.AF_UNIX); s.bind(sys.argv[1]); s.listen(); os._exit(0)"
    folder = sockets.runtime_folder()
    dead = folder / "1-dead.sock"
    subprocess.run([sys.executable, "-c", code, str(dead)], check=True, timeout=60)
    live = folder / "2-live.sock"
    begun, forgotten = folder / "3-begun.log", folder / "4-forgotten.log"
    for log in (begun, forgotten, live.with_suffix(".log")):
        log.touch()
    for log in (forgotten, live.with_suffix(".log")):
        os.utime(log, (0, 0))
    with sockets.listen(live) as listener:
        assert dead.is_socket()
        sockets.remove_stale(folder)
        assert sorted(path.name for path in folder.iterdir()) == ["2-live.log", "2-live.sock", "3-begun.log"]
        listener.settimeout(5)
        listener.accept()[0].close()
        with sockets.connect(str(live)) as connection:
            assert sockets.peer_user(connection) == os.geteuid()


def test_a_socket_has_its_name_only_once_somebody_listens(runtime: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[list[str]] = []

    class Watched(socket.socket):
        def listen(self, *backlog: int) -> None:
            seen.append([path.suffix for path in sockets.runtime_folder().iterdir()])
            super().listen(*backlog)

    monkeypatch.setattr(sockets.socket, "socket", Watched)
    path = sockets.new_path()
    sockets.listen(path).close()
    assert seen == [[".new"]]
    assert path.is_socket()


def test_either_side_refuses_another_user(runtime: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = sockets.new_path()
    with sockets.listen(path) as listener:
        with sockets.connect(str(path)):
            accepted, _ = listener.accept()
            sockets.check_peer(accepted)
            monkeypatch.setattr(sockets.os, "geteuid", lambda: os.getuid() + 1)
            with pytest.raises(sockets.Stranger, match=f"belongs to user {os.getuid()}, not to you"):
                sockets.check_peer(accepted)
            accepted.close()
        with pytest.raises(sockets.Stranger):
            sockets.connect(str(path))
