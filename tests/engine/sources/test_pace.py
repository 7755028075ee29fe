"""For how long nothing may come of a run before it is called stopped."""

import json
import os
import time
from pathlib import Path

import numpy as np
import pytest
from event_files import losses, record, scalar

from finetui.engine.protocol.events import StateChanged
from finetui.engine.sources.pace import LEAST_SECONDS, UNKNOWN_SECONDS, Pace
from finetui.engine.sources.recognise import find_runs
from finetui.engine.sources.watched_runs import events_of


def patience(times: list[float], *, together: bool = False) -> float:
    pace = Pace()
    if together:
        pace.rows(np.array(times))
    else:
        for at in times:
            pace.row(at)
    return pace.patience


@pytest.mark.parametrize("together", [False, True])
@pytest.mark.parametrize(
    ("times", "expected"),
    [
        ([], UNKNOWN_SECONDS),
        ([0.0, 0.0, 0.0], UNKNOWN_SECONDS),
        ([5.0], UNKNOWN_SECONDS),
        ([1e9 + n for n in range(50)], LEAST_SECONDS),
        ([1e9 + 1800 * n for n in range(5)], 3 * 1800),  # a row for each epoch
        ([1e9 + n + 400 * (n > 30) for n in range(50)], LEAST_SECONDS),  # one pause may be a restart
        ([1e9 + n + 400 * (n // 10) for n in range(50)], 2 * 401),  # several are evaluations
        ([1e9 + n + 86_400 * (n // 10) for n in range(50)], LEAST_SECONDS),  # nights between trainings
        ([1e9 + n if n % 3 else 0.0 for n in range(3000)], LEAST_SECONDS),
        ([float("nan"), 1e9, float("inf"), 1e9 + 1000, 1e9 + 2000, 5e8, 1e9 + 2500], 3000.0),
    ],
)
def test_by_what_came_before(times: list[float], expected: float, together: bool) -> None:
    assert patience(times, together=together) == pytest.approx(expected)


def state_of(path: Path) -> str:
    (found,) = find_runs(path)
    return [event.state for event in events_of(found).read() if isinstance(event, StateChanged)][-1]


@pytest.mark.parametrize(("gap", "silent", "expected"), [
    (1, 60, "running"), (1, 300, "stopped"), (1800, 3600, "running"), (1800, 3 * 1800 + 60, "stopped"),
])  # fmt: skip
@pytest.mark.parametrize("kind", ["tensorboard", "csv", "jsonl", "trainer"])
def test_the_same_rule_for_all_files(tmp_path: Path, kind: str, gap: int, silent: int, expected: str) -> None:
    now = time.time()
    times = [now - silent - gap * n for n in reversed(range(6))]
    if kind == "tensorboard":
        file = tmp_path / "events.out.tfevents.1.h"
        file.write_bytes(
            losses(range(0)) + b"".join(record(n, scalar("loss", 1.0), time=at) for n, at in enumerate(times))
        )
    elif kind == "csv":
        file = tmp_path / "metrics.csv"
        file.write_text("step,loss,timestamp\n" + "".join(f"{n},1.0,{at}\n" for n, at in enumerate(times)))
    elif kind == "jsonl":
        file = tmp_path / "log.jsonl"
        lines = ({"step": n, "loss": 1.0, "timestamp": at} for n, at in enumerate(times))
        file.write_text("".join(json.dumps(line) + "\n" for line in lines))
    else:
        for n, at in enumerate(times, 1):
            (tmp_path / f"checkpoint-{n}").mkdir()
            file = tmp_path / f"checkpoint-{n}" / "trainer_state.json"
            log = [{"step": step, "loss": 1.0} for step in range(1, n + 1)]
            file.write_text(json.dumps({"log_history": log, "global_step": n, "max_steps": 99}))
            os.utime(file, (at, at))
    os.utime(file, (times[-1],) * 2)
    assert state_of(tmp_path) == expected
