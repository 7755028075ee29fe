"""CSV, JSON lines, Trainer states and trackio's databases, torn, rewritten and appended to."""

import json
import math
import os
import sqlite3
import time
from pathlib import Path

import pytest

from finetui.engine.sources.recognise import find_runs
from finetui.engine.sources.source import Anew, Changes, Ended, Hparams, Item, Note, Row
from finetui.engine.sources.table import CsvRun, JsonLinesRun
from finetui.engine.sources.trackio import TrackioRun, runs_in
from finetui.engine.sources.trainer_state import TrainerRun

CSV = Path(__file__).parents[2] / "fixtures" / "watched" / "lightning_csv" / "metrics.csv"


def rows(items: list[Item]) -> list[tuple[int, dict[str, float]]]:
    return [(item.step, dict(item.values)) for item in items if isinstance(item, Row)]


def test_the_sparse_rows_of_lightning() -> None:
    found = list(CsvRun(CSV).read())
    assert sum("train_loss" in values for _, values in rows(found)) == 12
    assert [(item.step, item.epoch, sorted(item.values)) for item in found if "val_loss" in item.values] == [
        (7, 0.0, ["val_acc", "val_loss"]),
        (15, 1.0, ["val_acc", "val_loss"]),
        (23, 2.0, ["val_acc", "val_loss"]),
    ]


@pytest.mark.parametrize("kind", ["csv", "jsonl"])
def test_torn_at_every_byte_no_part_of_a_number_is_told(tmp_path: Path, kind: str) -> None:
    lines = ["step,loss", "1,0.12345", "2,0.23456"] if kind == "csv" else ['{"step":1,"loss":0.12345}'] * 2
    text, file = "\n".join(lines) + "\n", tmp_path / f"metrics.{kind}"
    for cut in range(len(text)):
        file.write_text(text[:cut])
        run = CsvRun(file) if kind == "csv" else JsonLinesRun(file)
        first = rows(list(run.read()))
        with file.open("a") as more:
            more.write(text[cut:])
        found = first + rows(list(run.read()))
        assert [values["loss"] for _, values in found] == ([0.12345, 0.23456] if kind == "csv" else [0.12345] * 2)


def test_a_last_line_without_its_end_is_taken_once_the_file_is_old(tmp_path: Path) -> None:
    file = tmp_path / "metrics.csv"
    file.write_text("step,loss\n1,0.5\n2,0.12")
    run = CsvRun(file)
    assert rows(list(run.read())) == [(1, {"loss": 0.5})]
    os.utime(file, (time.time() - 3600,) * 2)
    assert rows(list(run.read())) == [(2, {"loss": 0.12})]
    assert rows(list(run.read())) == []
    with file.open("a") as more:
        more.write("34\n3,0.1\n")  # it was torn after all
    again = list(run.read())
    assert isinstance(again[0], Anew)
    assert rows(again) == [(1, {"loss": 0.5}), (2, {"loss": 0.1234}), (3, {"loss": 0.1})]


def test_a_header_that_is_rewritten_begins_anew(tmp_path: Path) -> None:
    file = tmp_path / "metrics.csv"
    file.write_text("step,loss\n1,0.5\n")
    run = CsvRun(file)
    list(run.read())
    file.write_text("step,loss,val_loss\n1,0.5,\n2,,0.7\n")
    again = list(run.read())
    assert isinstance(again[0], Anew)
    assert rows(again) == [(1, {"loss": 0.5}), (2, {"val_loss": 0.7})]


def test_lines_without_numbers_are_counted(tmp_path: Path) -> None:
    file = tmp_path / "log.jsonl"
    file.write_text('{"loss": 1}\nnot json\n[1]\n{"loss": {"train": 2, "name": "x"}, "done": true}\n')
    items = list(JsonLinesRun(file).read())
    assert rows(items) == [(1, {"loss": 1.0}), (2, {"loss/train": 2.0})]
    assert [item.message for item in items if isinstance(item, Note)] == [
        "2 lines of log.jsonl without numbers were left out"
    ]


def test_the_epochs_of_a_table_without_steps_are_its_steps(tmp_path: Path) -> None:
    file = tmp_path / "results.csv"  # as Ultralytics writes it
    file.write_text("                  epoch,   train/loss, metrics/accuracy_top1\n  1,  0.7, 0.5\n  2,  0.6, 0.55\n")
    assert rows(list(CsvRun(file).read())) == [
        (1, {"train/loss": 0.7, "metrics/accuracy_top1": 0.5}),
        (2, {"train/loss": 0.6, "metrics/accuracy_top1": 0.55}),
    ]


def state(folder: Path, steps: int, most: int = 30, **more: object) -> None:
    log = [{"step": step, "epoch": step / 10, "loss": 1 / step} for step in range(10, steps + 1, 10)]
    if steps >= most:
        log.append({"step": steps, "epoch": steps / 10, "train_loss": 0.4, "train_runtime": 9.0})
    folder.mkdir(exist_ok=True)
    content = {"log_history": log, "global_step": steps, "max_steps": most, "num_train_epochs": 3, **more}
    (folder / "trainer_state.json").write_text(json.dumps(content))


def test_the_newest_state_of_a_trainer_goes_on_where_the_last_one_ended(tmp_path: Path) -> None:
    state(tmp_path / "checkpoint-10", 10)
    run = TrainerRun(tmp_path)
    first = list(run.read())
    assert first[0] == Hparams({"epochs": 3, "max_steps": 30})
    assert rows(first) == [(10, {"loss": 0.1})]
    state(tmp_path / "checkpoint-30", 30)
    os.utime(tmp_path / "checkpoint-10" / "trainer_state.json", (1, 1))
    later = list(run.read())
    assert [step for step, _ in rows(later)] == [20, 30]  # and nothing of the summary
    assert later[-1] == Ended()


def ended(folder: Path) -> bool:
    return Ended() in list(TrainerRun(folder).read())


def test_a_trainer_has_ended_where_its_state_says_so(tmp_path: Path) -> None:
    state(tmp_path, 20)
    assert not ended(tmp_path)
    control = {"should_training_stop": False, "should_save": True}
    state(tmp_path, 20, stateful_callbacks={"TrainerControl": {"args": control, "attributes": {}}})
    assert not ended(tmp_path)
    state(tmp_path, 20, stateful_callbacks={"TrainerControl": {"args": control | {"should_training_stop": True}}})
    assert ended(tmp_path)  # EarlyStoppingCallback
    state(tmp_path, 30, most=40)
    assert not ended(tmp_path)
    state(tmp_path, 30, most=30)
    assert ended(tmp_path)
    summary = {"step": 20, "train_runtime": 9.0, "train_loss": 1.0}
    log = [{"step": 20, "loss": 1.0}, summary, {"step": 20, "eval_loss": 1.0}]
    state(tmp_path, 20, log_history=log)
    assert ended(tmp_path)  # stopped early, then evaluated
    state(tmp_path, 30, most=40, log_history=[*log, {"step": 30, "loss": 1.0}])
    assert not ended(tmp_path)  # it goes on
    for odd in ({"stateful_callbacks": 3}, {"stateful_callbacks": {"TrainerControl": [1]}}, {"global_step": "x"}):
        state(tmp_path, 20, **odd)
        assert not ended(tmp_path)


def test_a_state_that_is_being_written_is_waited_for(tmp_path: Path) -> None:
    state(tmp_path, 20)
    whole = (tmp_path / "trainer_state.json").read_text()
    run = TrainerRun(tmp_path)
    for cut in range(0, len(whole), 5):
        (tmp_path / "trainer_state.json").write_text(whole[:cut])
        assert list(run.read()) == []
    (tmp_path / "trainer_state.json").write_text(whole)
    assert [step for step, _ in rows(list(run.read()))] == [10, 20]


def test_another_training_in_the_same_folder_begins_anew(tmp_path: Path) -> None:
    state(tmp_path, 20)
    run = TrainerRun(tmp_path)
    list(run.read())
    state(tmp_path, 10)
    assert [type(item) for item in run.read()] == [Anew, Hparams, Row, Changes]


@pytest.fixture
def base(tmp_path: Path) -> Path:
    """A database with the tables that trackio documents, and two runs."""
    path = tmp_path / "project.db"
    with sqlite3.connect(path) as made:
        made.execute(
            "CREATE TABLE metrics (id INTEGER PRIMARY KEY AUTOINCREMENT, run_id TEXT NOT NULL, "
            "timestamp TEXT NOT NULL, run_name TEXT NOT NULL, step INTEGER NOT NULL, metrics TEXT NOT NULL)"
        )
        made.execute("CREATE TABLE configs (run_id TEXT, run_name TEXT, config TEXT, created_at TEXT)")
        made.execute("INSERT INTO configs VALUES ('a', 'first', '{\"lr\": 0.1, \"_Username\": \"x\"}', '')")
    log(path, "a", "first", 1, 0.5)
    log(path, "b", "second", 1, 0.7)
    return path


def log(path: Path, run: str, name: str, step: int, loss: float) -> None:
    with sqlite3.connect(path) as made:
        made.execute(
            "INSERT INTO metrics (run_id, timestamp, run_name, step, metrics) VALUES (?, ?, ?, ?, ?)",
            (run, "2026-01-01T00:00:00+00:00", name, step, json.dumps({"loss": loss, "name": "x"})),
        )


def test_a_run_of_trackio_goes_on(base: Path) -> None:
    assert runs_in(base) == [("a", "first"), ("b", "second")]
    run = TrackioRun(base, "a")
    assert list(run.read()) == [Hparams({"lr": 0.1}), Row(1, 1767225600.0, None, {"loss": 0.5})]
    log(base, "a", "first", 2, 0.4)
    assert rows(list(run.read())) == [(2, {"loss": 0.4})]
    with sqlite3.connect(base) as made:
        made.execute("DELETE FROM metrics WHERE step = 1")
    assert [type(item) for item in run.read()] == [Anew, Hparams, Row]


def test_a_database_that_is_no_database_cannot_be_read_just_now(base: Path) -> None:
    run = TrackioRun(base, "a")
    base.write_bytes(b"SQLite format 3\x00" + b"x" * 5000)
    with pytest.raises(OSError, match=r"project\.db cannot be read"):
        list(run.read())
    assert runs_in(base) == []


def test_a_cell_without_an_end_costs_its_line_and_no_other(tmp_path: Path) -> None:
    file = tmp_path / "metrics.csv"
    file.write_text(f"step,loss\n1,0.5\n2,{'9' * 200_000}\n3,0.25\n")
    found = list(CsvRun(file).read())
    assert rows(found) == [(1, {"loss": 0.5}), (3, {"loss": 0.25})]
    assert [item.message for item in found if isinstance(item, Note)] == [
        "1 line of metrics.csv without numbers was left out"
    ]


def test_a_step_of_a_trainer_that_is_no_number_is_left_out(tmp_path: Path) -> None:
    entries = [{"step": math.nan, "loss": 1.0}, {"step": 1e999, "loss": 1.0}, {"step": 3, "loss": 0.5}]
    (tmp_path / "trainer_state.json").write_text(json.dumps({"log_history": entries}))
    assert rows(list(TrainerRun(tmp_path).read())) == [(3, {"loss": 0.5})]


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("step;loss;val_acc\n1;0,5;\n2;0,25;0,75\n", [(1, {"loss": 0.5}), (2, {"loss": 0.25, "val_acc": 0.75})]),
        ("step;loss\n1;0.5\n", [(1, {"loss": 0.5})]),
        ("step\tloss\n1\t0.5\n2\t0,25\n", [(1, {"loss": 0.5}), (2, {"loss": 0.25})]),
        ("step,loss,note;s\n1,0.5,1;2\n", [(1, {"loss": 0.5})]),
        ("\ufeffstep;loss\r\n1;0,5\r\n", [(1, {"loss": 0.5})]),
        ("loss\n0.5\n", [(1, {"loss": 0.5})]),
    ],
)
def test_what_is_between_the_columns_is_seen(tmp_path: Path, text: str, expected: list[object]) -> None:
    file = tmp_path / "metrics.csv"
    file.write_text(text, newline="")
    (found,) = find_runs(file)
    assert found.kind == "CSV"
    items = list(found.open().read())
    assert rows(items) == expected
    assert not [item for item in items if isinstance(item, Note)]


def test_a_column_that_tells_the_part_of_the_data(tmp_path: Path) -> None:
    file = tmp_path / "log.csv"
    file.write_text("epoch,split,loss,note\n1,train,0.5,a\n1,Val,0.6,b\n1,,0.7,c\n")
    assert rows(list(CsvRun(file).read())) == [(1, {"train/loss": 0.5}), (1, {"Val/loss": 0.6}), (1, {"loss": 0.7})]


@pytest.mark.parametrize("kind", ["csv", "jsonl"])
def test_seconds_since_the_start_are_counted_back_from_when_the_last_row_was_written(tmp_path: Path, kind: str) -> None:
    """As Ultralytics tells them."""
    file, seconds = tmp_path / f"results.{kind}", (10.5, 21.0, 31.5)
    if kind == "csv":
        file.write_text("epoch,time,train/loss\n" + "".join(f"{n},{at},0.5\n" for n, at in enumerate(seconds, 1)))
    else:
        file.write_text(
            "".join(json.dumps({"epoch": n, "time": t, "loss": 0.5}) + "\n" for n, t in enumerate(seconds, 1))
        )
    os.utime(file, (1.7e9, 1.7e9))
    found = (CsvRun if kind == "csv" else JsonLinesRun)(file).read()
    assert [item.time for item in found if isinstance(item, Row)] == [1.7e9 - 21, 1.7e9 - 10.5, 1.7e9]
