import errno
import os
import stat
import subprocess
import sys
from pathlib import Path

import pytest

from finetui.engine.files import link, remove_stale, replacing


def write(path: Path, content: bytes) -> None:
    with replacing(path) as file:
        file.write(content)


def test_a_file_is_replaced_and_can_be_read_back_before(tmp_path: Path) -> None:
    path = tmp_path / "a"
    write(path, b"old")
    with replacing(path) as file:
        file.write(b"new")
        file.seek(0)
        assert (file.read(), path.read_bytes()) == (b"new", b"old")
    assert path.read_bytes() == b"new"
    assert list(tmp_path.iterdir()) == [path]


def test_it_is_on_the_disk_before_it_has_the_name_and_the_name_after(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "a"
    synced: list[tuple[str, bool]] = []

    def fsync(descriptor: int) -> None:
        kind = "folder" if stat.S_ISDIR(os.fstat(descriptor).st_mode) else "file"
        synced.append((kind, path.exists()))

    monkeypatch.setattr(os, "fsync", fsync)
    write(path, b"x")
    assert synced == [("file", False), ("folder", True)]


def test_whatever_is_raised_the_old_file_stays(tmp_path: Path) -> None:
    path = tmp_path / "a"
    write(path, b"old")
    with pytest.raises(KeyboardInterrupt), replacing(path) as file:
        file.write(b"new")
        raise KeyboardInterrupt
    assert path.read_bytes() == b"old"
    assert list(tmp_path.iterdir()) == [path]


def test_a_folder_that_cannot_be_synced_is_none_of_our_business(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    error = errno.EINVAL

    def fsync(descriptor: int) -> None:
        if stat.S_ISDIR(os.fstat(descriptor).st_mode):
            raise OSError(error, os.strerror(error))

    monkeypatch.setattr(os, "fsync", fsync)
    write(tmp_path / "a", b"x")
    error = errno.EIO
    with pytest.raises(OSError, match="Input/output"):
        write(tmp_path / "b", b"x")


def no_links(*_arguments: object) -> None:
    raise PermissionError(errno.EPERM, "Operation not permitted")  # what a FAT file system says


@pytest.mark.parametrize("links", [True, False])
def test_a_link_is_the_file_as_it_is_now(tmp_path: Path, links: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    path, to = tmp_path / "last", tmp_path / "best"
    if not links:
        monkeypatch.setattr(os, "link", no_links)
    for content in (b"first" * 1_000_000, b"second"):
        write(path, content)
        link(path, to)
        link(path, to)  # again: two names of one file
        assert to.read_bytes() == content
        assert to.samefile(path) == links
        write(path, b"later")
        assert to.read_bytes() == content
    assert sorted(tmp_path.iterdir()) == [to, path]


def test_a_copy_that_fails_leaves_what_was_there(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path, to = tmp_path / "last", tmp_path / "best"
    write(path, b"new")
    write(to, b"old")
    monkeypatch.setattr(os, "link", no_links)

    def full(_descriptor: int) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(OSError, match="No space"):
        link(path, to)
    assert to.read_bytes() == b"old"
    assert sorted(tmp_path.iterdir()) == [to, path]


def test_a_link_to_nothing_is_an_error_that_names_it(tmp_path: Path) -> None:
    write(tmp_path / "best", b"old")
    with pytest.raises(FileNotFoundError) as caught:
        link(tmp_path / "gone", tmp_path / "best")
    assert Path(caught.value.filename) == tmp_path / "gone"
    assert (tmp_path / "best").read_bytes() == b"old"


def test_temporaries_of_processes_that_are_gone_are_removed(tmp_path: Path) -> None:
    gone = subprocess.Popen([sys.executable, "-c", ""])
    gone.wait()
    living = subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE)
    try:
        stale = [f".last.ckpt.{gone.pid}.tmp", f".a.b.{os.getpid()}.tmp", f".x.{10**20}.tmp", ".y.0.tmp"]
        kept = [f".last.ckpt.{living.pid}.tmp", ".y.1.tmp", "last.ckpt", f"last.ckpt.{gone.pid}.tmp", ".a.x.tmp"]
        for name in stale + kept:
            (tmp_path / name).touch()
        (tmp_path / f".folder.{gone.pid}.tmp").mkdir()
        assert sorted(path.name for path in remove_stale(tmp_path)) == sorted(stale)
        assert sorted(path.name for path in tmp_path.iterdir() if path.is_file()) == sorted(kept)
        assert (tmp_path / f".folder.{gone.pid}.tmp").is_dir()
    finally:
        living.communicate(b"\n")


def test_temporaries_of_another_users_process_stay(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / ".a.77.tmp").touch()

    def kill(_pid: int, _signal: int) -> None:
        raise PermissionError

    monkeypatch.setattr(os, "kill", kill)
    assert remove_stale(tmp_path) == []
