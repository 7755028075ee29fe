"""Files that the libraries themselves write, at their newest versions, while they are watched."""

import json
from pathlib import Path

import pytest

pytest.importorskip("tensorboard")
pytest.importorskip("trackio")
pytest.importorskip("transformers")

from finetui.engine.sources.recognise import find_runs
from finetui.engine.sources.source import Row
from finetui.engine.sources.watched_runs import events_of
from finetui.tui.state.store import Store

pytestmark = pytest.mark.peers


def test_a_writer_of_pytorch_that_is_flushed_now_and_then(tmp_path: Path) -> None:
    from torch.utils.tensorboard import SummaryWriter

    writer = SummaryWriter(str(tmp_path))
    writer.add_scalar("loss", 1.0, 0)
    writer.flush()
    (found,) = find_runs(tmp_path)
    reader, store = events_of(found), Store()
    for step in range(1, 50):
        writer.add_scalar("loss", 1 / step, step)
        writer.add_scalar("val/accuracy", step / 50, step, new_style=True)
        if step % 7 == 0:
            writer.flush()
            store.fold(reader.read())
    writer.close()
    again = SummaryWriter(str(tmp_path), purge_step=30, filename_suffix=".again")
    again.add_scalar("loss", 9.0, 30)
    again.close()
    store.fold(reader.read())
    assert store.curves.train["loss"].points()[1].tolist() == pytest.approx([1.0, *(1 / n for n in range(1, 30)), 9.0])
    assert store.view.step == 30


def test_the_numbers_are_those_that_tensorboard_reads(tmp_path: Path) -> None:
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
    from torch.utils.tensorboard import SummaryWriter

    with SummaryWriter(str(tmp_path)) as writer:
        for step in range(300):
            writer.add_scalar("a/b", step**0.5, step)
            writer.add_scalar("c", -step, step * 1000)
    accumulator = EventAccumulator(str(tmp_path), size_guidance={"scalars": 0})
    accumulator.Reload()
    (found,) = find_runs(tmp_path)
    rows = [item for item in found.open().read() if isinstance(item, Row)]
    for tag in ("a/b", "c"):
        theirs = [(one.step, one.value, one.wall_time) for one in accumulator.Scalars(tag)]
        assert [(row.step, row.values[tag]) for row in rows if tag in row.values] == [one[:2] for one in theirs]


def test_trackio(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import sqlite3

    from trackio.sqlite_storage import SQLiteStorage

    monkeypatch.setattr("trackio.sqlite_storage.TRACKIO_DIR", tmp_path)
    path = Path(SQLiteStorage.init_db("project"))
    with sqlite3.connect(path) as base:
        base.execute(
            "INSERT INTO metrics (run_id, timestamp, run_name, step, metrics) VALUES ('x', ?, 'mine', 3, ?)",
            ("2026-01-01T00:00:00", json.dumps({"train/loss": 0.5})),
        )
    (found,) = find_runs(path)
    assert (found.name, found.kind) == ("project/mine", "trackio")
    assert [dict(item.values) for item in found.open().read() if isinstance(item, Row)] == [{"train/loss": 0.5}]


def test_the_state_of_a_trainer(tmp_path: Path) -> None:
    from transformers.trainer_callback import TrainerState

    state = TrainerState(max_steps=20, num_train_epochs=2, train_batch_size=4, global_step=20)
    state.log_history = [
        {"epoch": 1.0, "loss": 0.7, "grad_norm": 2.0, "learning_rate": 0.1, "step": 10},
        {"epoch": 1.0, "eval_loss": 0.6, "eval_accuracy": 0.8, "eval_runtime": 1.0, "step": 10},
        {"epoch": 2.0, "train_loss": 0.6, "train_runtime": 5.0, "total_flos": 1.0, "step": 20},
    ]
    state.save_to_json(str(tmp_path / "trainer_state.json"))
    (found,) = find_runs(tmp_path)
    store = Store()
    store.fold(events_of(found).read())
    assert (store.view.best_accuracy, store.view.epochs, store.view.steps_per_epoch) == (0.8, 2, 10)
    assert [len(curve) for curve in store.curves.of("loss")] == [1, 1]
    assert store.view.state == "finished"
