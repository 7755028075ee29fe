"""What a source tells as finetui's events: figures, epochs, absent values, thinned histories, restarts."""

import math
import os
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from event_files import hparams, losses, record, scalar

from finetui.engine.protocol.events import AnyEvent, DataSeen, Evaluated, RunPrepared, StateChanged, TrainPoint
from finetui.engine.protocol.run_clock import RunClock
from finetui.engine.runs.summaries import SummarySoFar
from finetui.engine.sources.names import Meaning, meaning
from finetui.engine.sources.recognise import find_runs
from finetui.engine.sources.run_events import RunEvents
from finetui.engine.sources.source import Anew, Back, Ended, Hparams, Item, Row
from finetui.engine.sources.watched_runs import WatchedRuns, events_of
from finetui.tui.state.run_curves import other_metric
from finetui.tui.state.store import Store

FIXTURES = Path(__file__).parents[2] / "fixtures" / "watched"


class Made:
    """A source that tells what it is given, a list for each look."""

    kind = "made"

    def __init__(self, *looks: list[Item], unread: int = 0, age: float = 0.0) -> None:
        self._looks, self._unread, self._age = iter(looks), unread, age

    def read(self) -> Iterator[Item]:
        yield from next(self._looks, [])

    def changed(self) -> float:
        return time.time() - self._age

    def unread(self) -> int:
        return self._unread


def row(step: int, epoch: float | None = None, **values: float) -> Row:
    return Row(step, 1.7e9 + step, epoch, {name.replace("__", "/"): value for name, value in values.items()})


def told(source: Made, looks: int = 1) -> tuple[Store, list[AnyEvent]]:
    reader, store, heard = RunEvents(source, "a-run", "/a/run"), Store(), []
    for _ in range(looks):
        heard += store.fold(reader.read())
    return store, heard


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("loss", Meaning("train", "loss")),
        ("Loss/train", Meaning("train", "loss")),
        ("train_loss_step", Meaning("train", "loss")),
        ("train_loss_epoch", Meaning("other")),
        ("val_loss_epoch", Meaning("val", "loss")),
        ("validation/epoch_accuracy", Meaning("val", "accuracy")),
        ("train/epoch_loss", Meaning("train", "loss")),
        ("eval_loss", Meaning("val", "loss")),
        ("eval_top1", Meaning("val", "accuracy", 0.01)),
        ("eval_samples_per_second", Meaning("other")),
        ("metrics/accuracy_top1", Meaning("val", "accuracy")),
        ("lr-AdamW", Meaning("train", "lr")),
        ("lr/pg0", Meaning("train", "lr")),
        ("lr/pg1", Meaning("other")),
        ("train/learning_rate", Meaning("train", "lr")),
        ("learning_rate/group0", Meaning("train", "lr")),
        ("learning_rate/group1", Meaning("other")),
        ("lr-SGD/pg0", Meaning("train", "lr")),
        ("lr-SGD-momentum", Meaning("other")),
        ("lr-AdamW-weight_decay", Meaning("other")),
        ("grad_2.0_norm_total", Meaning("train", "grad_norm")),
        ("trainer/global_step", Meaning("step")),
        ("train/epoch", Meaning("epoch")),
        ("test_acc", Meaning("test", "accuracy")),
        ("", Meaning("other")),
    ],
)
def test_names(name: str, expected: Meaning) -> None:
    assert meaning(name) == expected


def test_what_is_not_told_is_absent() -> None:
    store, heard = told(Made([row(1, loss=0.5), row(2, eval_loss=0.4)]))
    point = next(event for event in heard if isinstance(event, TrainPoint))
    assert (point.loss, point.accuracy, point.learning_rate, point.grad_norm) == (0.5, None, None, None)
    evaluation = next(event for event in heard if isinstance(event, Evaluated))
    assert (evaluation.loss, evaluation.accuracy, evaluation.n, evaluation.best) == (0.4, None, 0, False)
    assert store.view.best_accuracy is None
    assert [len(curve) for curve in store.curves.of("accuracy")] == [0, 0]


def test_an_accuracy_above_one_is_no_share() -> None:
    store, _ = told(Made([row(1, accuracy=87.5)]))
    assert len(store.curves.train["accuracy"]) == 0
    assert store.curves.of(other_metric("accuracy").key)[0].buckets().mean.tolist() == [87.5]


def test_an_epoch_is_as_long_as_from_one_evaluation_to_the_next_where_few_steps_are_logged() -> None:
    """As finetui's own event files of LeNet on MNIST are: a row each 35 steps or so, and one at an epoch's end."""
    logged = [row(step, -(-step // 469), loss=1.0) for step in range(7, 939, 35)]
    evaluated = [row(469, 1, loss=1.0, val_loss=0.5), row(938, 2, loss=1.0, val_loss=0.4)]
    rows = sorted([*logged, *evaluated], key=lambda one: one.step)
    _, heard = told(Made(rows))
    assert next(event for event in heard if isinstance(event, RunPrepared)).steps_per_epoch == 469


def test_nothing_can_be_told_to_it_and_that_is_said() -> None:
    from finetui.engine.protocol import commands

    store, _ = told(Made([row(1, loss=1.0)]))
    for kind in (commands.Pause, commands.Stop, commands.SetFrozen, commands.DescribeModel):
        assert "only watched, through its files (made)" in str(store.view.refusal_of(kind))


@pytest.mark.parametrize(
    ("rows", "steps"),
    [
        ([row(step, step // 10) for step in range(35)], 10),  # Lightning: whole epochs
        ([row(step, step / 8) for step in range(1, 35)], 8),  # Hugging Face: fractions
        ([row(epoch, epoch) for epoch in range(1, 5)], 1),  # a row an epoch
        ([row(step, 0.0) for step in range(35)], 0),  # in its first one
        ([row(step) for step in range(35)], 0),
    ],
)
def test_how_long_an_epoch_is(rows: list[Row], steps: int) -> None:
    store, heard = told(Made([one._replace(values={"loss": 1.0}) for one in rows]))
    assert next(event for event in heard if isinstance(event, RunPrepared)).steps_per_epoch == steps
    assert store.curves.units == (("epoch", "step", "time") if steps else ("step", "time"))
    last = rows[-1].step
    assert store.curves.train["loss"].span[1] == pytest.approx(last / steps if steps else last)


def test_settings_and_the_plan() -> None:
    store, _ = told(Made([Hparams({"epochs": 3, "lr": 0.1}), row(10, 1.0, loss=1.0), row(20, 2.0, loss=1.0)]))
    assert (store.view.epochs, store.view.total_steps, store.view.hparams) == (3, 30, {"epochs": 3, "lr": 0.1})


def test_a_long_history_keeps_its_extremes_and_means_in_few_events() -> None:
    values = [math.sin(step / 50) + (5.0 if step == 7777 else 0.0) for step in range(20_000)]
    rows = [row(step, loss=value, mine=-value) for step, value in enumerate(values)]
    store, heard = told(Made(list(rows), unread=100 * 150 * 4000))
    assert len(heard) < 1000
    loss, mine = store.curves.train["loss"], store.curves.of(other_metric("mine").key)[0]
    assert loss.buckets().high.max() == pytest.approx(max(values))
    assert mine.buckets().low.min() == pytest.approx(-max(values))
    assert loss.mean() == pytest.approx(sum(values) / len(values))
    assert mine.mean() == pytest.approx(-sum(values) / len(values))


def test_a_run_that_goes_back_forgets_what_came_after() -> None:
    looks = [[row(step, loss=float(step)) for step in range(1, 11)], [Back(6), row(6, loss=60.0)]]
    store, _ = told(Made(*looks), looks=2)
    assert store.curves.train["loss"].buckets().mean.tolist() == [1, 2, 3, 4, 5, 60]
    assert store.view.step == 6
    assert any("start again at step 6" in line.text for line in store.view.log)


@pytest.mark.parametrize("again", [Back(0), Anew("it was rewritten")])
def test_a_run_that_begins_anew_has_only_its_new_points(again: Item) -> None:
    store, _ = told(Made([row(1, loss=1.0), row(2, loss=1.0)], [again, row(1, loss=9.0)]), looks=2)
    assert store.curves.train["loss"].buckets().mean.tolist() == [9.0]
    assert (store.view.name, store.view.state) == ("a-run", "running")


def test_state_and_age() -> None:
    def states(source: Made) -> list[str]:
        return [event.state for event in told(source)[1] if isinstance(event, StateChanged)]

    assert states(Made([row(1, loss=1.0)])) == ["running"]
    assert states(Made([row(1, loss=1.0)], age=3600)) == ["running", "stopped"]
    assert states(Made([row(1, loss=1.0), Ended()])) == ["running", "finished"]
    store, heard = told(Made([row(1, loss=1.0)], age=3600))
    assert isinstance(heard[-1], DataSeen)
    assert time.time() - store.view.changed == pytest.approx(3600, abs=60)
    assert "60 minutes" in store.view.reason


def test_a_step_that_is_told_again_replaces_what_was_told_of_it() -> None:
    """One tag that goes back, in one file: its own curve does, and no other."""
    rows = [row(0, cls=1.0), row(1, cls=2.0), row(0, cls=3.0), row(1, loss=1.0)]
    store, _ = told(Made(list(rows)))
    assert store.curves.of(other_metric("cls").key)[0].points()[1].tolist() == [3.0]


def test_recognised_by_looking(tmp_path: Path) -> None:
    found = {one.name: one.kind for one in find_runs(FIXTURES)}
    assert found == {"lightning_csv": "CSV", "lightning_tb": "TensorBoard", "pytorch": "TensorBoard"}
    (tmp_path / "people.csv").write_text("name,age\nx,1\n")
    (tmp_path / "a.jsonl").write_text('{"loss": 1, "step": 1}\n')
    (tmp_path / "b.jsonl").write_text('{"val": {"acc": 1}}\n')
    (tmp_path / ".hidden").mkdir()
    (tmp_path / ".hidden" / "c.jsonl").write_text('{"loss": 1}\n')
    names = [one.name for one in find_runs(tmp_path)]
    assert names == [f"{tmp_path.name}/a", f"{tmp_path.name}/b"]


def test_all_runs_of_a_folder_with_new_ones_and_grown_ones(tmp_path: Path) -> None:
    for name in ("one", "two"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "events.out.tfevents.1.h").write_bytes(losses(range(5)))
    runs = WatchedRuns([tmp_path])
    assert {(run.name, run.step, run.epochs, run.lr) for run in runs.read()} == {
        ("one", 4, 0, None),
        ("two", 4, 0, None),
    }
    with (tmp_path / "one" / "events.out.tfevents.1.h").open("ab") as file:
        file.write(losses(range(5, 9)))
    assert {(run.name, run.step) for run in runs.read()} == {("one", 8), ("two", 4)}
    os.remove(tmp_path / "two" / "events.out.tfevents.1.h")  # noqa: PTH107
    assert {(run.name, run.step) for run in runs.read()} == {("one", 8), ("two", 4)}  # known until the next search


@pytest.mark.parametrize("name", ["pytorch", "lightning_tb", "lightning_csv"])
def test_what_real_libraries_wrote(name: str) -> None:
    found = next(one for one in find_runs(FIXTURES) if one.name == name)
    store = Store()
    store.fold(events_of(found).read())
    assert [len(curve) for curve in store.curves.of("loss")] == ([40, 4] if name == "pytorch" else [12, 3])
    assert store.view.best_accuracy == pytest.approx(0.78 if name == "pytorch" else 0.796875)
    if name != "pytorch":
        assert store.view.steps_per_epoch == 8


def test_an_epoch_that_is_next_to_none_tells_of_no_steps() -> None:
    for rows in (
        [row(8, 5e-324, loss=1.0)],
        [row(2, 0.0, loss=1.0), row(4, 5e-324, loss=1.0), row(8, 1e-323, loss=1.0)],
    ):
        _, heard = told(Made(list(rows)))
        assert next(event for event in heard if isinstance(event, RunPrepared)).steps_per_epoch == 0


@pytest.mark.parametrize("epoch", [0.0, math.nan, math.inf, -0.5])
def test_an_epoch_that_is_none_costs_nothing_else(epoch: float) -> None:
    store, heard = told(Made([row(8, 0.5, loss=1.0), row(16, epoch, loss=2.0)]))
    assert next(event for event in heard if isinstance(event, RunPrepared)).steps_per_epoch == 16
    assert store.curves.train["loss"].buckets().mean.tolist() == [1.0, 2.0]
    _, heard = told(Made([row(1, 1.0, loss=1.0), row(2, epoch, loss=2.0)]))
    assert len([event for event in heard if isinstance(event, TrainPoint)]) == 2


@pytest.mark.parametrize("number", [math.nan, math.inf])
def test_a_setting_that_is_no_number_is_not_shown_as_one(number: float) -> None:
    settings = {"epochs": number, "max_steps": 100, "lr": number, "batch_size": number, "seed": number}
    _, heard = told(Made([Hparams(settings), row(1, loss=1.0)]))
    so_far = SummarySoFar()
    for event in heard:
        so_far.hear(event)
    summary = so_far.summary("a-run", Path("/a/run"), None, 0)
    assert summary is not None
    assert (summary.epochs, summary.lr, summary.batch_size, summary.seed) == (0, None, 0, 0)


def test_an_accuracy_that_is_no_number_is_never_the_best() -> None:
    store, heard = told(Made([row(1, val_acc=math.nan), row(2, val_acc=0.5), row(3, val_acc=0.4)]))
    assert [event.best for event in heard if isinstance(event, Evaluated)] == [False, True, False]
    assert store.view.best_accuracy == 0.5


def test_a_file_that_is_written_anew_is_looked_at_anew() -> None:
    anew = [Anew("it was rewritten"), Hparams({"lr": 0.5})]
    anew += [row(step, step / 4, loss=1.0, test_acc=0.5) for step in range(1, 9)]
    for looks in ([[row(1, loss=1.0)], anew], [[row(1, loss=1.0), *anew]], [anew]):
        store, heard = told(Made(*looks), looks=len(looks))
        last = [event for event in heard if isinstance(event, RunPrepared)][-1]
        assert (last.steps_per_epoch, last.hparams) == (4, {"lr": 0.5})
        assert [event.watched for event in heard if isinstance(event, Evaluated)] == [True] * 8
        said = any("its files were read again from the start: it was rewritten" in line.text for line in store.view.log)
        assert said == (len(looks) == 2)  # else nothing had been shown of what was there before


class Failing(Made):
    """Fails once, after the first `after` of what it tells."""

    def __init__(self, items: list[Item], after: int) -> None:
        super().__init__(items)
        self._items, self._after = iter(items), after

    def read(self) -> Iterator[Item]:
        for item in self._items:
            yield item
            self._after -= 1
            if not self._after:
                raise ValueError("no number")


@pytest.mark.parametrize("unread", [0, 100 * 150 * 4000])
def test_what_came_before_a_failure_is_told_and_nothing_twice(unread: int) -> None:
    source = Failing([row(step, loss=float(step)) for step in range(1, 9)], after=3)
    source._unread = unread
    reader, store = RunEvents(source, "a-run", "/a/run"), Store()
    with pytest.raises(ValueError, match="no number"):
        for event in reader.read():
            store.fold([event])
    assert store.curves.train["loss"].mean() == pytest.approx(2.0)
    store.fold(reader.read())
    assert store.curves.train["loss"].mean() == pytest.approx(4.5)
    assert store.view.step == 8


@pytest.mark.parametrize("name", ["lr", "learning_rate", "lr-Adam", "lr/pg0", "train/learning_rate"])
def test_the_rate_in_the_list_of_runs_is_the_greatest_that_was_logged(tmp_path: Path, name: str) -> None:
    for run, settings in (("told", {"lr": 0.5}), ("logged", {})):
        (tmp_path / run).mkdir()
        content = [record(0, hparams(**settings))] if settings else []
        content += [record(step, scalar(name, rate)) for step, rate in enumerate((0.0, 0.25, 0.125, math.nan))]
        (tmp_path / run / "events.out.tfevents.1.h").write_bytes(b"".join(content) + losses(range(4)))
    assert {run.name: run.lr for run in WatchedRuns([tmp_path]).read()} == {"told": 0.5, "logged": 0.25}


def test_a_run_that_is_looked_at_again_and_again_took_what_its_rows_say() -> None:
    """Each look ends with an event that has no time of its own."""
    reader, clock = (
        RunEvents(Made([row(0, loss=1.0)], [row(5, loss=1.0)], [], [row(9, loss=0.5)]), "a", "/a"),
        RunClock(),
    )
    for _ in range(4):
        for event in reader.read():
            clock.note(event)
    assert clock.seconds == 9
