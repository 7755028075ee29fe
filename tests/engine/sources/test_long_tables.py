"""What is taken together of long tables is what is taken line by line."""

import json
import math
import random
from collections.abc import Callable
from pathlib import Path

import pytest

from finetui.engine.sources import table
from finetui.engine.sources.rows import Row, Rows
from finetui.engine.sources.source import Item
from finetui.engine.sources.table import CsvRun, JsonLinesRun

NUMBERS = ("0.5", "1e-7", "nan", "inf", "-3", "1_000", "1e400", " 2 ", "", "", "x")


def csv_text(rng: random.Random, *, between: str = ",", odd: float = 0.004) -> str:
    names = ["epoch", "step", "train_loss", "val_loss", "note" if between == "," else "no,te", "time", "val_acc"]
    found = [between.join(names)]
    for step in range(3000):
        cells = [str(step // 100), str(step), f"{rng.random()}", "", "a b", str(step * 0.1), ""]
        if step % 50 == 0:
            cells[2], cells[3], cells[6] = "", f"{rng.random()}", f"{rng.random()}"
        if rng.random() < odd * 3:
            cells[rng.randrange(7)] = rng.choice(NUMBERS)
        if between != ",":
            cells = [cell.replace(".", ",") for cell in cells]
        found.append(between.join(cells))
        if rng.random() < odd:
            wrong = (found[0], "", "   ", between.join(cells[:3]), 'q"uoted' + between * 6, between * 6, "9" * 140_000)
            found.append(rng.choice(wrong))
    return "\n".join(found) + "\n"


def json_text(rng: random.Random, *, odd: float = 0.004, late: bool = True) -> str:
    found = []
    for step in range(3000):
        line: dict[str, object] = {"step": step, "loss": rng.random(), "split": "train", "done": False, "lr": None}
        line["deep"] = {"val": {"loss": rng.random()}, "names": [1, 2], "a": {"b": {"c": {"d": {"e": 1}}}}}
        if late and step > 1500:
            line["accuracy"] = step if step % 3 else 0.5
        if rng.random() < odd * 5:
            line["loss"] = rng.choice((math.nan, math.inf, -math.inf, 3, 1 << 70, None))
        if rng.random() < odd:
            line["step"] = rng.choice((math.nan, 1e300, None, 2.75))
        found.append(json.dumps(line))
        if rng.random() < odd:
            found.append(
                rng.choice(("", "no json", "[1]", '{"loss": 1} {"loss": 2}', '{"loss": 1e999}', '{"x": "\\ud800"}'))
            )
    return "\n".join(found) + "\n"


def one_by_one(items: list[Item]) -> list[str]:
    """All of `items`, each row by itself, with NaN as it is."""
    apart = [row for item in items for row in (item.one_by_one() if isinstance(item, Rows) else [item])]
    return [repr(one) for one in apart]


def items_of(
    monkeypatch: pytest.MonkeyPatch, make: Callable[[], CsvRun | JsonLinesRun], *, together: bool
) -> list[Item]:
    with monkeypatch.context() as patch:
        patch.setattr("finetui.engine.sources.tail.BLOCK", 20_000)
        patch.setattr(table, "_LONG_BLOCK", 5000)
        patch.setattr(table, "_MANY", 100 if together else math.inf)
        return list(make().read())


TEXTS = {
    "metrics.csv": csv_text,
    "semicolons.csv": lambda rng: csv_text(rng, between=";"),
    "plain.csv": lambda rng: csv_text(rng, odd=0.0),
    "log.jsonl": json_text,
    "plain.jsonl": lambda rng: json_text(rng, odd=0.0),
    "same.jsonl": lambda rng: json_text(rng, odd=0.0, late=False),
    "nan.jsonl": lambda rng: json_text(rng, odd=0.0, late=False).replace('"train"', '"train", "bad": NaN'),
}


@pytest.mark.parametrize("name", TEXTS)
@pytest.mark.parametrize("seed", range(4))
def test_together_as_line_by_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str, seed: int) -> None:
    file = tmp_path / name
    file.write_text(TEXTS[name](random.Random(seed)))
    kind = CsvRun if file.suffix == ".csv" else JsonLinesRun
    apart = items_of(monkeypatch, lambda: kind(file), together=False)
    together = items_of(monkeypatch, lambda: kind(file), together=True)
    assert sum(isinstance(item, Row) for item in apart) > 2900
    assert one_by_one(together) == one_by_one(apart)
    taken = sum(len(item.steps) for item in together if isinstance(item, Rows))
    assert taken > (2000 if name in ("plain.csv", "plain.jsonl", "same.jsonl", "nan.jsonl") else 100)
