import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from engine import runs
from engine.config import RunConfig, load
from engine.errors import BadInput
from engine.events import StateChanged
from engine.journal import Journal


def test_default_names_are_readable_and_unique(make_config: Callable[..., RunConfig]) -> None:
    name = runs.default_name("mnist", "lenet")
    first, second = (runs.create(make_config(), name) for _ in range(2))
    assert first.name == name
    assert second.name == f"{name}-2"
    assert load(second.config) == make_config()


def test_a_given_name_must_be_free(make_config: Callable[..., RunConfig]) -> None:
    folder = runs.create(make_config(name="mine"), "x")
    assert folder.path.name == "mine"
    with pytest.raises(BadInput, match="'mine' exists"):
        runs.create(make_config(name="mine"), "x")


def test_a_runs_folder_that_is_a_file_is_refused(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(BadInput, match="is not a folder"):
        runs.check_runs_dir(tmp_path / "file" / "runs")
    runs.check_runs_dir(tmp_path / "new" / "deep")
    assert not (tmp_path / "new").exists()


def test_a_lock_is_seen_by_others_and_names_its_holder(make_config: Callable[..., RunConfig]) -> None:
    folder = runs.create(make_config(), "a")
    assert not runs.is_live(folder)
    lock = runs.RunLock(folder)
    assert runs.is_live(folder)
    with pytest.raises(BadInput, match=r"in use by another engine.*pid"):
        runs.RunLock(folder)
    lock.release()
    assert not runs.is_live(folder)


def test_a_lock_goes_with_its_process(make_config: Callable[..., RunConfig]) -> None:
    folder = runs.create(make_config(), "a")
    code = (
        "import sys; from pathlib import Path; from engine.runs import RunFolder, RunLock;"
        "lock = RunLock(RunFolder(Path(sys.argv[1]))); print('held', flush=True); sys.stdin.read()"
    )
    process = subprocess.Popen(
        [sys.executable, "-c", code, str(folder.path)], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    )
    assert process.stdout is not None
    assert process.stdout.readline() == b"held\n"
    assert runs.is_live(folder)
    process.kill()
    process.wait()
    assert not runs.is_live(folder)


def test_an_unknown_run_is_named_with_what_there_is(make_config: Callable[..., RunConfig], tmp_path: Path) -> None:
    folder = runs.create(make_config(), "known-run")
    journal = Journal()
    journal.open(folder.journal)
    journal.append(StateChanged(state="ready"))
    with pytest.raises(BadInput, match="there is no run 'nope'.*known-run"):
        runs.find("nope", folder.path.parent)
    assert runs.find("known-run", folder.path.parent).path == folder.path
    assert runs.find(str(folder.path), tmp_path).path == folder.path
    with pytest.raises(BadInput, match="no checkpoint yet"):
        runs.find_checkpoint("known-run", folder.path.parent)


def test_a_folder_without_a_beginning_is_not_listed(make_config: Callable[..., RunConfig]) -> None:
    folder = runs.create(make_config(), "broken")
    folder.journal.write_text("garbage\n")
    assert runs.summaries(folder.path.parent) == []
    assert runs.summaries(folder.path / "no such folder") == []
