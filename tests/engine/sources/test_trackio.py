"""trackio's databases: read in blocks, only what is new, and without a trace beside them or a lock on them."""

import json
import math
import random
import shutil
import sqlite3
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from finetui.engine.sources import trackio
from finetui.engine.sources.recognise import find_runs
from finetui.engine.sources.rows import Row, Rows
from finetui.engine.sources.source import Anew, Hparams, Item
from finetui.engine.sources.sqlite_file import opened
from finetui.engine.sources.trackio import TrackioRun, runs_in

_INSERT = "INSERT INTO metrics (run_id, timestamp, run_name, step, metrics) VALUES (?, ?, ?, ?, ?)"


def made(path: Path, journal: str) -> sqlite3.Connection:
    """A database as trackio makes it, and its writer."""
    base = sqlite3.connect(path, timeout=0)
    base.execute(f"PRAGMA journal_mode = {journal}")
    base.execute(
        "CREATE TABLE metrics (id INTEGER PRIMARY KEY AUTOINCREMENT, run_id TEXT NOT NULL, timestamp TEXT NOT NULL, "
        "run_name TEXT NOT NULL, step INTEGER NOT NULL, metrics TEXT NOT NULL)"
    )
    base.execute("CREATE INDEX idx_metrics_run_step ON metrics(run_id, step)")
    base.execute("CREATE TABLE configs (run_id TEXT, run_name TEXT, config TEXT, created_at TEXT)")
    base.commit()
    return base


def add(base: sqlite3.Connection, steps: range, run: str = "a", **more: object) -> None:
    rows = [(run, "2026-01-01T00:00:00+00:00", run, n, json.dumps({"loss": n / 4, **more})) for n in steps]
    base.executemany(_INSERT, rows)
    base.commit()


def steps(items: list[Item]) -> list[int]:
    return [row.step for row in each(items)]


def each(items: list[Item]) -> Iterator[Row]:
    for item in items:
        if isinstance(item, Rows):
            yield from item.one_by_one()
        elif isinstance(item, Row):
            yield item


def contents(folder: Path) -> dict[str, bytes]:
    """All files, but of what writer and readers share only that it is there."""
    return {path.name: b"" if path.name.endswith("-shm") else path.read_bytes() for path in folder.iterdir()}


@pytest.mark.parametrize("journal", ["wal", "delete"])
@pytest.mark.parametrize("writer", ["writes", "has closed", "has died", "has died in the middle"])
def test_all_that_was_committed_is_read_and_no_file_is_made(tmp_path: Path, journal: str, writer: str) -> None:
    there, here = tmp_path / "written", tmp_path / "read"
    there.mkdir()
    base = made(there / "project.db", journal)
    add(base, range(1, 11))
    if writer == "has died in the middle":
        base.execute("PRAGMA cache_size = 2")  # so that it has to write before it commits
        base.executemany(_INSERT, [("a", "", "a", 99, json.dumps({"loss": 1.0, "x": "y" * 4000}))] * 50)
    elif writer == "has closed":
        base.close()
    if writer.startswith("has died"):
        shutil.copytree(there, here, ignore=shutil.ignore_patterns("*-shm"))
    else:
        here = there
    before = contents(here)
    file = here / "project.db"
    run = TrackioRun(file, "a")
    for _ in range(2):
        assert [one.name for one in find_runs(file)] == ["project/a"]
    assert steps(list(run.read())) == list(range(1, 11))
    assert list(run.read()) == []
    assert contents(here) == before
    if writer == "writes":
        add(base, range(11, 13))
        assert steps(list(run.read())) == [11, 12]
    base.close()


def test_its_writer_never_waits_while_rows_are_told(tmp_path: Path) -> None:
    base = made(tmp_path / "project.db", "delete")
    add(base, range(9000))
    told = TrackioRun(tmp_path / "project.db", "a").read()
    first = [next(told) for _ in range(10)]
    add(base, range(9000, 9001))  # it would raise: the database is locked
    assert steps([*first, *told]) == list(range(9000))
    base.close()


def test_rows_come_in_blocks_and_only_new_ones_are_looked_at(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    base = made(tmp_path / "project.db", "wal")
    add(base, range(20_000))
    add(base, range(20_000), "b")
    run = TrackioRun(tmp_path / "project.db", "a")
    found = list(run.read())
    together = [len(item.steps) for item in found if isinstance(item, Rows)]
    assert steps(found) == list(range(20_000))
    assert len(together) == 4 and max(together) == 4000
    looked_at: list[object] = []
    unix = trackio._unix
    monkeypatch.setattr(trackio, "_unix", lambda text: looked_at.append(text) or unix(text))
    assert list(run.read()) == []
    add(base, range(20_000, 20_003))
    assert steps(list(run.read())) == [20_000, 20_001, 20_002]
    assert len(looked_at) == 3
    base.close()


def test_a_database_that_does_not_change_is_not_opened(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    made(tmp_path / "project.db", "wal").close()
    monkeypatch.setattr(trackio, "_SETTLED_SECONDS", -1.0)
    run = TrackioRun(tmp_path / "project.db", "a")
    list(run.read())
    runs_in(tmp_path / "project.db")
    monkeypatch.delattr(trackio, "opened")
    assert list(run.read()) == []
    assert runs_in(tmp_path / "project.db") == []


@pytest.mark.parametrize("seed", range(4))
def test_together_as_one_by_one(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, seed: int) -> None:
    rng = random.Random(seed)
    base = made(tmp_path / "project.db", "wal")
    for step in range(9000):
        told: dict[str, object] = {"loss": rng.random(), "val/acc": 0.5, "epoch": step // 100, "name": "x"}
        if rng.random() < 0.001:
            told["loss"] = rng.choice(("NaN", "Infinity", "-Infinity", None, 1 << 60, {"deep": 1.5}))
        text = rng.choice(("", "[1]", "{", "NaN", '{"epoch": 3}')) if rng.random() < 0.0005 else json.dumps(told)
        base.execute(_INSERT, ("a", "2026-01-01", "a", step if step % 999 else rng.choice((1 << 60, -5)), text))
    base.commit()
    together = list(TrackioRun(tmp_path / "project.db", "a").read())
    monkeypatch.setattr(trackio, "_FEW", math.inf)
    apart = list(TrackioRun(tmp_path / "project.db", "a").read())
    assert [repr(row) for row in each(together)] == [repr(row) for row in each(apart)]
    assert len(list(each(apart))) > 8900


def test_what_is_no_number_is_written_in_quotation_marks(tmp_path: Path) -> None:
    base = made(tmp_path / "project.db", "wal")
    add(base, range(2), inf="Infinity", least="-Infinity", none="NaN")
    (first, _) = each(list(TrackioRun(tmp_path / "project.db", "a").read()))
    assert repr(dict(first.values)) == "{'loss': 0.0, 'inf': inf, 'least': -inf, 'none': nan}"
    base.close()


def test_a_run_that_was_deleted_and_logged_again_is_told_anew(tmp_path: Path) -> None:
    base = made(tmp_path / "project.db", "wal")
    add(base, range(5))
    run = TrackioRun(tmp_path / "project.db", "a")
    list(run.read())
    base.execute("DELETE FROM metrics")
    add(base, range(3))
    found = list(run.read())
    assert isinstance(found[0], Anew)
    assert steps(found) == [0, 1, 2]
    base.close()


@pytest.mark.parametrize("time", range(1, 5))
def test_what_was_read_while_its_writer_came_is_read_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, time: int
) -> None:
    base = made(tmp_path / "project.db", "wal")
    add(base, range(5000))
    run = TrackioRun(tmp_path / "project.db", "a")
    list(run.read())
    base.execute("DELETE FROM metrics")
    base.execute("""INSERT INTO configs VALUES ('a', 'a', '{"lr": 1}', '')""")
    add(base, range(5000))
    times = 0

    @contextmanager
    def interrupted(path: Path) -> Iterator[sqlite3.Connection]:
        nonlocal times
        times += 1
        with opened(path) as base:
            yield base
            if times == time:
                raise OSError

    monkeypatch.setattr(trackio, "opened", interrupted)
    found: list[Item] = []
    for _ in range(2):
        try:
            for item in run.read():
                found.append(item)  # what comes before the error counts
        except OSError:
            continue
    assert [type(item) for item in found if not isinstance(item, Row | Rows)] == [Anew, Hparams]
    assert steps(found) == list(range(5000))
    base.close()


def test_a_writer_that_comes_and_goes_while_it_is_read_is_noticed(tmp_path: Path) -> None:
    file = tmp_path / "project.db"
    made(file, "wal").close()
    with pytest.raises(OSError, match="just now"), opened(file) as base:
        base.execute("SELECT count(*) FROM metrics").fetchone()
        writer = sqlite3.connect(file)
        add(writer, range(5))
        writer.close()
        assert not file.with_name("project.db-wal").exists()


def test_a_database_that_cannot_be_read_just_now_has_its_runs_still(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = tmp_path / "project.db"
    base = made(file, "wal")
    add(base, range(5))
    assert runs_in(file) == [("a", "a")]
    add(base, range(5, 6))

    @contextmanager
    def busy(_path: Path) -> Iterator[sqlite3.Connection]:
        raise OSError
        yield base

    monkeypatch.setattr(trackio, "opened", busy)
    assert runs_in(file) == [("a", "a")]
    base.close()


def test_all_runs_of_a_project_in_the_order_in_which_they_began(tmp_path: Path) -> None:
    base = made(tmp_path / "project.db", "wal")
    for run in ("late", "x", "b", "late"):
        add(base, range(3), run)
    assert runs_in(tmp_path / "project.db") == [("late", "late"), ("x", "x"), ("b", "b")]
    base.execute("DELETE FROM metrics")
    base.commit()
    assert runs_in(tmp_path / "project.db") == []
    base.close()


def test_cells_that_hold_anything_else_cost_their_row_and_no_other(tmp_path: Path) -> None:
    base = sqlite3.connect(tmp_path / "project.db")
    base.execute("CREATE TABLE metrics (id INTEGER PRIMARY KEY, run_id, timestamp, run_name, step, metrics)")
    whole = ("a", "2026-01-01", "a", 1, '{"loss": 1}')
    base.execute(_INSERT, whole)
    for at in (1, 2, 3, 4):
        for odd in (None, b"\xff\xfe", 1e999, "x", 1 << 62, "9999-12-31T23:59:59-14:00", "{" * 9999):
            base.execute(_INSERT, (*whole[:at], odd, *whole[at + 1 :]))
    base.execute(_INSERT, ("a", "2026-01-01", "a", 1, "x")).execute(
        "UPDATE metrics SET run_name = CAST(x'fffe' AS TEXT)"
    )
    base.execute(_INSERT, ("a", "2026-01-01", "a", 7, '{"loss": 1}'))
    base.commit()
    base.close()
    (found,) = find_runs(tmp_path)
    told = list(each(list(found.open().read())))
    assert (told[0].step, told[-1].step) == (1, 7)
    assert {value for row in told for value in row.values.values()} == {1.0}
