"""The file that takes everybody's output while there is a dashboard."""

import os
import time
from pathlib import Path

import pytest

from finetui.tui.terminal import log_file
from finetui.tui.terminal.log_file import LIMIT, DashboardLog, log_path


def test_it_takes_both_streams_and_gives_them_back(capfd: pytest.CaptureFixture[str]) -> None:
    log = DashboardLog()
    with log.takes_output():
        os.write(1, b"to descriptor 1\n")
        os.write(2, b"to descriptor 2\n")
        os.system("echo of a child")
    os.write(1, b"afterwards\n")
    os.write(2, b"afterwards, too\n")
    text = log.path.read_text()
    for line in ("to descriptor 1\n", "to descriptor 2\n", "of a child\n", f"dashboard {os.getpid()}\n"):
        assert line in text
    assert capfd.readouterr() == ("afterwards\n", "afterwards, too\n")


def test_it_is_private(tmp_path: Path) -> None:
    before = os.umask(0)
    try:
        log = DashboardLog()
    finally:
        os.umask(before)
    assert log.path == log_path()
    assert log.path.is_relative_to(tmp_path)
    assert log.path.stat().st_mode & 0o777 == 0o600
    assert log.path.parent.stat().st_mode & 0o777 == 0o700


def test_one_that_has_grown_is_put_aside() -> None:
    log_path().parent.mkdir(parents=True)
    log_path().write_bytes(b"old" * LIMIT)
    log = DashboardLog()
    assert log.path.stat().st_size < 1000
    assert log.path.with_suffix(".log.1").stat().st_size == 3 * LIMIT


def test_it_stays_small_while_somebody_writes_and_writes(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(log_file, "_CHECK_SECONDS", 0.01)
    log = DashboardLog()
    with log.takes_output():
        os.write(2, b"x" * (LIMIT + 1))
        end = time.monotonic() + 10
        while log.path.stat().st_size > LIMIT and time.monotonic() < end:
            time.sleep(0.01)
        os.write(2, b"more\n")
    assert log.path.read_bytes() == b"more\n"


@pytest.mark.parametrize("obstacle", ["a file", "a link"])
def test_one_that_cannot_be_written_is_replaced(tmp_path: Path, obstacle: str) -> None:
    log_path().parent.parent.mkdir(parents=True)
    target = tmp_path / "somebody's"
    if obstacle == "a file":
        log_path().parent.write_text("in the way")
    else:
        log_path().parent.mkdir()
        target.write_text("theirs\n")
        log_path().symlink_to(target)
    log = DashboardLog()
    assert log.path != log_path()
    assert log.path.stat().st_mode & 0o777 == 0o600
    assert obstacle == "a file" or target.read_text() == "theirs\n"
    log.path.unlink()
