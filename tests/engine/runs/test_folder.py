import errno
import fcntl
import os
import shutil
import socket
import subprocess
import threading
import time
from collections.abc import Callable
from pathlib import Path

import msgspec
import pytest
from fork_server import FORKED

from finetui.engine.errors import BadInput
from finetui.engine.protocol.config import RunConfig
from finetui.engine.protocol.config_file import load
from finetui.engine.protocol.events import StateChanged
from finetui.engine.runs import folder as runs, lock as lock_module, summaries
from finetui.engine.runs.folder import (
    RunFolder,
    check_runs_dir,
    create_run,
    default_run_name,
    find_checkpoint,
    find_run,
    run_folders,
)
from finetui.engine.runs.journal import Journal
from finetui.engine.runs.lock import _LOCK_SECONDS, RunLock, holder_of, is_live, live_runs, move_socket
from finetui.engine.runs.run_writer import RunWriter
from finetui.engine.runs.summaries import RunSummary, summarise_run, summarise_runs
from finetui.engine.session.session import Session


def test_default_names_are_readable_and_unique(make_config: Callable[..., RunConfig]) -> None:
    name = default_run_name("mnist", "lenet")
    first, second = (create_run(make_config(), name) for _ in range(2))
    assert first.name == name
    assert second.name == f"{name}-2"
    assert load(second.config) == make_config()


@pytest.mark.parametrize(
    ("data", "model", "short"),
    [
        ("/some/where/all_in_one.py:pair", "/some/where/all_in_one.py:make", "all_in_one-pair"),
        ("some/where.py:pair", "some.where:make", "where-pair"),
        ("mnist", "nets.py:Seq", "mnist-nets-Seq"),
        ("mnist", "package.nets:Seq", "mnist-nets-Seq"),
        ("a/net.py:pair", "b/net.py:make", "net-pair-net-make"),
        ("/home/me/photos/cats", "resnet18", "cats-resnet18"),
        ("/home/me/photos/cats/", "resnet18", "cats-resnet18"),
        ("~/cats/data", "lenet", "data-lenet"),
        (".", "lenet", "here-lenet"),
        ("/home/me/my photos/.hidden", "lenet", "hidden-lenet"),
        ("/home/me/фото", "lenet", "lenet"),
        ("/", "lenet", "lenet"),
        ("/data/" + "long_" * 40, "deep/" + "name_" * 40 + ".py:make", "long_" * 4 + "long-" + "name_" * 4 + "name"),
        ("own data", "__main__:Net", "own-data-__main__-Net"),
    ],
)
def test_default_names_are_short(tmp_path: Path, monkeypatch, data: str, model: str, short: str) -> None:
    (tmp_path / "here").mkdir()
    monkeypatch.chdir(tmp_path / "here")
    today = time.strftime("%Y-%m-%d")
    assert default_run_name(data, model) == f"{today}-{short}"
    assert default_run_name(data, model, "probe") == f"{today}-{short}-probe"
    assert len(default_run_name(data, model)) <= 60


def test_a_given_name_must_be_free(make_config: Callable[..., RunConfig]) -> None:
    folder = create_run(make_config(name="mine"), "x")
    assert folder.path.name == "mine"
    with pytest.raises(BadInput, match="'mine' exists"):
        create_run(make_config(name="mine"), "x")


def test_a_runs_folder_that_is_a_file_is_refused(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(BadInput, match="is not a folder"):
        check_runs_dir(tmp_path / "file" / "runs")
    check_runs_dir(tmp_path / "new" / "deep")
    assert not (tmp_path / "new").exists()


def test_a_lock_is_seen_by_others_and_names_its_holder(make_config: Callable[..., RunConfig]) -> None:
    folder = create_run(make_config(), "a")
    assert not is_live(folder)
    lock = RunLock(folder)
    assert is_live(folder)
    with pytest.raises(BadInput, match=rf"the run a is in use by process {os.getpid()} on host {socket.gethostname()}"):
        RunLock(folder)
    lock.release()
    assert not is_live(folder)


def test_the_holder_of_a_run_says_where_it_is(make_config: Callable[..., RunConfig]) -> None:
    folder = create_run(make_config(), "a")
    assert holder_of(folder) is None
    before = time.time()
    lock = RunLock(folder, "/somewhere/x.sock")
    there = holder_of(folder)
    assert there is not None
    assert (there.pid, there.host, there.socket, there.is_here) == (
        os.getpid(),
        socket.gethostname(),
        "/somewhere/x.sock",
        True,
    )
    assert before <= there.started <= time.time()
    assert [run.path for run in live_runs(folder.path.parent)] == []  # it has not begun
    folder.journal.touch()
    assert [run.path for run in live_runs(folder.path.parent)] == [folder.path]
    move_socket(folder, "/x.sock")
    moved = holder_of(folder)
    assert moved == msgspec.structs.replace(there, socket="/x.sock")
    lock.release()
    assert holder_of(folder) is None
    folder.lock.write_text("who knows")
    assert holder_of(folder) is None


def test_looking_at_who_has_a_run_never_keeps_an_engine_from_it(
    make_config: Callable[..., RunConfig], monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = create_run(make_config(), "a")
    folder.lock.touch()
    looked = threading.Event()

    def look() -> None:
        # What `holder` does, for as long as it can take on a busy machine.
        with folder.lock.open() as file:
            fcntl.flock(file, fcntl.LOCK_SH)
            looked.set()
            time.sleep(0.1)

    assert _LOCK_SECONDS > 0.2  # than looking takes on a busy machine
    monkeypatch.setattr(lock_module, "_LOCK_SECONDS", 30.0)
    thread = threading.Thread(target=look)
    thread.start()
    looked.wait(10)
    RunLock(folder).release()
    thread.join()


def test_a_folder_without_locks_is_said(make_config: Callable[..., RunConfig], monkeypatch: pytest.MonkeyPatch) -> None:
    folder = create_run(make_config(), "a")

    def no_locks(_descriptor: int, _operation: int) -> None:
        raise OSError(errno.ENOLCK, os.strerror(errno.ENOLCK))

    monkeypatch.setattr(fcntl, "flock", no_locks)
    with pytest.raises(BadInput, match=r"the run a cannot be locked: No locks available; choose another --runs-dir"):
        RunLock(folder)
    assert not is_live(folder)


def test_a_lock_goes_with_its_process(make_config: Callable[..., RunConfig]) -> None:
    folder = create_run(make_config(), "a")
    code = (
        "import sys; from pathlib import Path; from finetui.engine.runs.folder import RunFolder;"
        "from finetui.engine.runs.lock import RunLock;"
        "lock = RunLock(RunFolder(Path(sys.argv[1]))); print('held', flush=True); sys.stdin.read()"
    )
    process = subprocess.Popen([*FORKED, code, str(folder.path)], stdin=subprocess.PIPE, stdout=subprocess.PIPE)
    assert process.stdout is not None
    assert process.stdout.readline() == b"held\n"
    assert is_live(folder)
    process.kill()
    process.wait()
    assert not is_live(folder)


def test_an_unknown_run_is_named_with_what_there_is(make_config: Callable[..., RunConfig], tmp_path: Path) -> None:
    folder = create_run(make_config(), "known-run")
    journal = Journal()
    journal.open(folder.journal)
    journal.append(StateChanged(state="ready"))
    with pytest.raises(BadInput, match="there is no run 'nope'.*known-run"):
        find_run("nope", folder.path.parent)
    assert find_run("known-run", folder.path.parent).path == folder.path
    assert find_run(str(folder.path), tmp_path).path == folder.path
    (tmp_path / "photos").mkdir()
    with pytest.raises(BadInput, match="photos is not a run: it has no journal.jsonl"):
        find_run(str(tmp_path / "photos"), folder.path.parent)
    with pytest.raises(BadInput, match="^there is no file net.onnx$"):
        find_checkpoint("net.onnx", folder.path.parent)
    with pytest.raises(BadInput, match="no checkpoint yet"):
        find_checkpoint("known-run", folder.path.parent)


def test_a_folder_without_a_beginning_is_not_listed(make_config: Callable[..., RunConfig]) -> None:
    folder = create_run(make_config(), "broken")
    folder.journal.write_text("garbage\n")
    assert summarise_runs(folder.path.parent) == []
    assert summarise_runs(folder.path / "no such folder") == []


def test_a_run_that_is_deleted_while_all_are_listed_is_left_out(
    make_config: Callable[..., RunConfig], monkeypatch: pytest.MonkeyPatch
) -> None:
    kept, deleted = (Session(make_config(name=name)).run().folder for name in ("kept", "deleted"))
    assert kept is not None
    assert deleted is not None
    summarise = summarise_run

    def summarise_late(folder: RunFolder) -> RunSummary | None:
        shutil.rmtree(deleted.path, ignore_errors=True)
        return summarise(folder)

    monkeypatch.setattr(summaries, "summarise_run", summarise_late)
    assert [summary.name for summary in summarise_runs(kept.path.parent)] == ["kept"]
    monkeypatch.undo()
    monkeypatch.setattr(runs, "RunFolder", lambda path: deleted)  # listed, and gone when its time is asked for
    assert run_folders(kept.path.parent) == [deleted]


def test_a_run_that_ends_while_it_is_summarised_has_not_crashed(
    make_config: Callable[..., RunConfig], monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = Session(make_config(name="ends")).run().folder
    assert folder is not None
    whole = folder.journal.read_bytes()
    *begun, _end = whole.splitlines(keepends=True)
    folder.journal.write_bytes(b"".join(begun))

    def holder_that_leaves(_folder: RunFolder) -> None:
        folder.journal.write_bytes(whole)

    monkeypatch.setattr(summaries, "holder_of", holder_that_leaves)
    summary = summarise_run(folder)
    assert summary is not None
    assert summary.state == "finished"


def test_a_folder_that_cannot_be_taken_anew_is_given_up_once(make_config: Callable[..., RunConfig]) -> None:
    """Somebody deletes the folder of a run that trains; whoever takes the new one first, has it."""
    writer, config = RunWriter(), make_config(name="deleted")
    folder = writer.create(config, "deleted")
    shutil.rmtree(folder.path)
    folder.path.mkdir()
    other = RunLock(folder)
    for _ in range(2):  # also when it is tried again, with the folder there
        with pytest.raises(OSError, match="is in use by"):
            writer.restore(config)
    assert [path.name for path in folder.path.iterdir()] == ["engine.lock"]
    other.release()
    assert writer.restore(config)
    assert is_live(folder)
    assert folder.config.is_file()
    assert folder.journal.is_file()
    assert not writer.restore(config)
    writer.release()
    assert not is_live(folder)
