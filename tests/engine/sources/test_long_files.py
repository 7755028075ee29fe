"""What is taken together of long files is what is taken one by one: the same events, whatever is in them."""

import heapq
import math
import random
import struct
from collections.abc import Iterator
from pathlib import Path

import msgspec
import numpy as np
import pytest
from event_files import begins, field, frame, hparams, image, losses, record, scalar, tensor

from finetui.engine.protocol.events import AnyEvent, DataSeen, Evaluated, ThinnedPoint, TrainPoint
from finetui.engine.sources import row_buckets, run_events, tensorboard_file
from finetui.engine.sources.in_order import in_order_of_time
from finetui.engine.sources.rows import Row, Rows
from finetui.engine.sources.run_events import RunEvents
from finetui.engine.sources.source import Item
from finetui.engine.sources.tensorboard import TensorBoardRun
from finetui.engine.sources.tensorboard_event import Record
from finetui.engine.sources.tensorboard_file import EventFile
from finetui.engine.sources.tensorboard_scalars import Scalars
from finetui.tui.screens.status_lines import figures_line
from finetui.tui.state.store import Store

NAME = "events.out.tfevents.{}.host.1.0"
TAGS = ("train/loss", "loss", "train_accuracy", "lr-Adam", "epoch", "grad/a", "grad/b", "global_step")
RARE = ("val/loss", "val/accuracy", "test_loss", "val/loss_step")
VALUES = (math.nan, math.inf, -math.inf, 0.0, 3.5, 1e-30)


def half(tag: str, value: float) -> bytes:
    """A float in the field for floats of a tensor, with metadata behind it, as TensorFlow writes it."""
    content = field(1, 1) + field(2, b"") + field(5, struct.pack("<f", value))
    return field(1, tag.encode()) + field(8, content) + field(9, field(1, field(1, b"scalars")))


def without_step(tag: str, value: float) -> bytes:
    """A record of step 0, which protobuf leaves out."""
    return frame(field(1, 1.7e9) + field(5, field(1, scalar(tag, value))))


def written(rng: random.Random, records: int, step: int = 0, odd: float = 0.01) -> bytes:
    """The records of one writer; `odd` is the share of those that are no plain scalars."""
    found = []
    for _ in range(records // 4):
        step += rng.choice((1, 0, 0, 0, 60, -7)) if rng.random() < 0.3 else 1
        at = 1.7e9 + step + rng.random() * 3
        for tag in rng.sample(TAGS, 4) if rng.random() < 0.3 else TAGS[:4]:
            value = rng.choice(VALUES) if rng.random() < 0.02 else rng.random() * 1.2
            make = rng.choice((tensor, half)) if tag == "grad/b" else scalar
            found.append(record(step, make(tag, value), time=at))
        if rng.random() < 0.02:
            found.append(record(step, scalar(rng.choice(RARE), rng.random()), time=at))
        if rng.random() < odd:
            found.append(
                rng.choice(
                    (
                        record(step, image("a", rng.choice((40, 5000, 90_000))), time=at),
                        record(step, hparams(lr=rng.random()), time=at),
                        record(step, scalar("loss", 0.5), scalar("two", 2.0), time=at),
                        record(step, scalar("a" * 600, 1.0), time=at),
                        begins(step - 3),
                        without_step("loss", 0.25),
                        frame(b"\x09no event"),
                    )
                )
            )
    return b"".join(found)


def damaged(rng: random.Random, content: bytes) -> bytes:
    found = bytearray(content)
    for _ in range(3):
        found[rng.randrange(len(found))] ^= 1 << rng.randrange(8)
    return bytes(found)


def grown(folder: Path, seed: int) -> Iterator[None]:
    """Files in `folder` that grow between two looks: torn, damaged, begun again, side by side."""
    rng = random.Random(seed)
    first = folder / NAME.format(1)
    content = written(rng, 1500, odd=rng.choice((0.0, 0.005, 0.3)))
    content = damaged(rng, content) if seed % 2 else content
    cut = rng.randrange(len(content))
    first.write_bytes(content[:cut])
    if seed % 3 == 0:
        (folder / "validation").mkdir()
        (folder / "validation" / NAME.format(1)).write_bytes(written(rng, 700, odd=0.0))
    yield
    with first.open("ab") as file:
        file.write(content[cut:])
    yield
    (folder / NAME.format(2)).write_bytes(written(rng, 800, step=rng.randrange(900)))
    yield


def events(folder: Path, seed: int) -> list[AnyEvent]:
    """All that is told of the files that grow in `folder`, without what only the clock knows."""
    reader = RunEvents(TensorBoardRun(folder), "a-run", "/a/run")
    heard: list[AnyEvent] = []
    for _ in grown(folder, seed):
        heard += [event for event in reader.read() if not isinstance(event, DataSeen)]
    return [
        event if isinstance(event, TrainPoint | Evaluated) else msgspec.structs.replace(event, time=0.0)
        for event in heard
    ]


MEANS = ("mean_loss", "mean_accuracy", "means")


def exact(event: AnyEvent) -> str:
    """All of `event` but the means, with NaN as it is; in which order numbers were met is of no account."""
    told = msgspec.structs.asdict(event)
    told["others"] = sorted(told.get("others", {}).items())
    return repr({name: told[name] for name in told if name not in MEANS})


def means(event: AnyEvent) -> list[float]:
    """The means that `event` tells, which are the same but for the last bits of a sum."""
    if not isinstance(event, ThinnedPoint):
        return []
    told = [value for _, value in sorted(event.means.items())]
    return [value for value in (event.mean_loss, event.mean_accuracy, *told) if value is not None]


@pytest.fixture
def in_small_blocks(monkeypatch: pytest.MonkeyPatch) -> None:
    """Blocks and buckets as of a file that is a thousand times as long."""
    monkeypatch.setattr(tensorboard_file, "_BLOCK", 9973)
    monkeypatch.setattr(tensorboard_file, "_LONGEST", 50_000)
    monkeypatch.setattr(run_events, "_BUCKETS", 20)
    monkeypatch.setattr(run_events, "_LOOKED_AT", 50)


@pytest.mark.parametrize("seed", range(12))
def test_together_as_one_by_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, in_small_blocks: None, seed: int
) -> None:
    found = []
    for together in (False, True):
        with monkeypatch.context() as patch:
            patch.setattr(tensorboard_file, "_MANY", 30 if together else math.inf)
            patch.setattr(run_events, "_FEW", 4 if together else math.inf)
            folder = tmp_path / str(together)
            folder.mkdir()
            found.append(events(folder, seed))
    assert sum(isinstance(event, ThinnedPoint) for event in found[0]) > 30
    one_by_one, together = found
    assert list(map(exact, one_by_one)) == list(map(exact, together))
    for one, other in zip(one_by_one, together, strict=True):
        assert means(one) == pytest.approx(means(other), rel=1e-12, nan_ok=True)


class Told:
    """A source that tells `items`, as if a long file were read."""

    kind = "told"

    def __init__(self, items: list[Item]) -> None:
        self._items = items

    def read(self) -> Iterator[Item]:
        yield from self._items

    def changed(self) -> float:
        return 1.7e9

    def unread(self) -> int:
        return 150 * 20 * 100  # so that a bucket has 100 rows


@pytest.mark.parametrize("seed", range(6))
@pytest.mark.parametrize("beside", [False, True])
def test_of_many_evaluations_few_remain_and_the_best_one(
    monkeypatch: pytest.MonkeyPatch, in_small_blocks: None, seed: int, beside: bool
) -> None:
    rng = random.Random(seed)
    rows = []
    for step in range(1, 4001):
        values = {"val/accuracy": rng.choice((math.nan, 0.5, 2.0)) if rng.random() < 0.1 else rng.random() * 0.9}
        values |= {"val/loss": rng.random()} if rng.random() < 0.9 else {}
        values |= {"test_loss": rng.random(), "test_acc": 0.25} if rng.random() < 0.5 else {}
        values |= {"loss": rng.random(), "mine": step} if beside and rng.random() < 0.9 else {}
        rows.append(Row(step, 1.7e9 + step, None, values))
    best = rows[rng.randrange(4000)]
    best.values["val/accuracy"] = 0.95  # type: ignore[index]
    found = []
    for together in (False, True):
        monkeypatch.setattr(row_buckets, "_MANY", 0 if together else math.inf)
        items: list[Item] = [columns(rows[at : at + 400]) for at in range(0, 4000, 400)] if together else list(rows)
        heard = [event for event in RunEvents(Told(items), "a", "/a").read() if not isinstance(event, DataSeen)]
        found.append([event for event in heard if isinstance(event, Evaluated | TrainPoint)])
        evaluated = [event for event in heard if isinstance(event, Evaluated)]
        assert 300 < len(evaluated) <= 10 * 40  # first, last and extremes of each part and bucket
        told_best = [event for event in evaluated if event.best][-1]
        assert (told_best.step, told_best.accuracy) == (best.step, 0.95)
        assert (evaluated[0].step, evaluated[-1].step) == (1, 4000)
        assert max(event.loss for event in evaluated if event.watched and event.loss is not None) == max(
            row.values.get("val/loss", 0.0) for row in rows
        )
        assert [event.time for event in found[-1]] == sorted(event.time for event in found[-1])
    one_by_one, together_ = found
    assert list(map(exact, one_by_one)) == list(map(exact, together_))


def test_a_block_of_a_training_that_has_diverged_joins_a_bucket_that_has_begun(in_small_blocks: None) -> None:
    rows = [Row(step, 1.7e9 + step, None, {"loss": 0.5 if step <= 30 else math.nan}) for step in range(1, 81)]
    heard = list(RunEvents(Told([columns(rows[:40]), columns(rows[40:])]), "a", "/a").read())
    points = [event for event in heard if isinstance(event, TrainPoint)]
    assert {(point.step, point.loss) for point in points} == {(80, 0.5)}


def columns(rows: list[Row]) -> Rows:
    """These rows as columns."""
    names = list(dict.fromkeys(name for row in rows for name in row.values))
    flat = [(at, names.index(name), value) for at, row in enumerate(rows) for name, value in row.values.items()]
    at, name, values = (np.array(column) for column in zip(*flat, strict=True))
    steps, times = np.array([row.step for row in rows]), np.array([row.time for row in rows])
    return Rows(names, steps, times, np.full(len(rows), np.nan), at, name, values)


def test_the_first_points_are_there_while_the_rest_is_read_and_how_much_is_told(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, in_small_blocks: None
) -> None:
    monkeypatch.setattr(tensorboard_file, "_MANY", 30)
    monkeypatch.setattr(run_events, "_LONG", 100_000)
    (tmp_path / NAME.format(1)).write_bytes(losses(range(5000)))
    store, shares, points = Store(), [], []
    for event in RunEvents(TensorBoardRun(tmp_path), "a-run", "/a/run").read():
        store.fold([event])
        if isinstance(event, DataSeen):
            shares.append(event.share)
            points.append(store.view.step)
            said = f"{event.share:.0%} of files read"
            assert (said in figures_line(store, 120).plain) == (event.share < 1)
    assert len(shares) > 10
    assert shares == sorted(set(shares)) and shares[-1] == 1.0
    assert 0 < points[0] < 1000 and points == sorted(points)


def told(path: Path) -> list[Record | Scalars | str]:
    return list(EventFile(path).read())


@pytest.mark.parametrize("make", [scalar, tensor, half])
def test_scalars_of_a_long_file_come_together(tmp_path: Path, make) -> None:
    file, tags = tmp_path / NAME.format(1), [f"loss/of/{number}" for number in range(12)]
    steps = [0, 1, 127, 128, 16_383, 16_384, 2_097_152, 1 << 40] * 2
    content = [
        record(step, make(tag, number + 0.5)) for number, tag in enumerate(tags) for step in steps for _ in range(8)
    ]
    file.write_bytes(b"".join(content))
    (found,) = told(file)
    assert isinstance(found, Scalars)
    assert found.step.tolist() == [step for _ in tags for step in steps for _ in range(8)]
    assert [found.tags[tag] for tag in found.tag] == [tag for tag in tags for _ in range(len(steps) * 8)]
    assert found.values.tolist() == [number + 0.5 for number in range(12) for _ in range(len(steps) * 8)]
    assert set(found.time) == {1.7e9}


@pytest.mark.parametrize("place", range(0, 70, 3))
def test_a_damaged_byte_among_many_costs_its_record_and_no_other(tmp_path: Path, place: int) -> None:
    file, length = tmp_path / NAME.format(1), len(record(500, scalar("train/loss", 1.0)))
    content = bytearray(losses(range(200, 2200), tag="train/loss"))
    content[900 * length + place] ^= 0x11
    file.write_bytes(content)
    reader = EventFile(file)
    steps = [int(step) for part in reader.read() for step in (part.step if isinstance(part, Scalars) else [part.step])]
    gone = 900 + place // length
    assert steps == [step for step in range(200, 2200) if step != 200 + gone]
    assert reader.damaged == 1


def test_a_record_that_holds_records_is_one(tmp_path: Path) -> None:
    """The frames in its payload look like those around it."""
    file, inside = tmp_path / NAME.format(1), losses(range(5000, 5100), tag="inside")
    kept = record(1500, field(1, b"a-file") + field(8, field(1, 7) + field(8, inside)))
    file.write_bytes(losses(range(1500)) + kept + losses(range(1501, 3000)))
    steps = [step for part in told(file) for step in part.step.tolist()]
    assert steps == [*range(1500), *range(1501, 3000)]


def test_files_side_by_side_are_merged_in_the_order_of_time() -> None:
    rng, none = random.Random(5), np.nan
    for _ in range(60):
        sources: list[list[Item]] = []
        for name in "abc"[: rng.randint(2, 3)]:
            items: list[Item] = []
            for _ in range(rng.randint(0, 5)):
                times = np.cumsum([rng.choice((0, 0, 1, 2, -1)) for _ in range(rng.randint(1, 6))]) + 2.0 * len(items)
                count = np.arange(len(times))
                items.append(Rows((name,), count, times, times * none, count, count * 0, times + 0.5))
                if rng.random() < 0.4:
                    items.append(Row(0, times[-1] + 1.0, None, {name: 1.0}))
            sources.append(items)
        apart = [[one for item in source for one in each(item)] for source in sources]
        merged = list(heapq.merge(*apart, key=lambda row: row.time))
        assert [one for item in in_order_of_time(list(map(iter, sources))) for one in each(item)] == merged


def each(item: Item) -> list[Row]:
    return list(item.one_by_one()) if isinstance(item, Rows) else [item]  # type: ignore[list-item]
