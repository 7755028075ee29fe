"""Folders of runs that ended, made without training."""

import fcntl
import json
import os
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import msgspec
from canned import evaluated, point, prepared, running
from canned_predictions import predictions

from finetui.engine.protocol.config import FinetuneConfig, RunConfig
from finetui.engine.protocol.config_file import to_toml
from finetui.engine.protocol.events import AnyEvent, StateChanged
from finetui.engine.runs.journal import encode_line
from finetui.engine.runs.lock import Holder


def config(lr: float = 0.01, **training: object) -> RunConfig:
    """Return a configuration with this learning rate."""
    found = RunConfig()
    return msgspec.structs.replace(found, training=msgspec.structs.replace(found.training, lr=lr, **training))


def write_run(
    folder: Path,
    name: str,
    parent: str | None = None,
    *,
    lr: float = 0.01,
    accuracy: float = 0.5,
    at: float = 1.7e9,
    state: str = "finished",
    seed: int | None = None,
    points: int = 3,
) -> Path:
    """Write a run that began at `at`; with a `seed` it has predictions, about a share `accuracy` of them right."""
    path = folder / name
    path.mkdir(parents=True)
    settings = config(lr)
    if parent is not None:
        start = FinetuneConfig(parent=str(folder / parent / "best.ckpt"), parent_run=parent, recipe="lp-ft")
        settings = msgspec.structs.replace(settings, finetune=start)
    events: list[AnyEvent] = [
        prepared(parent=parent, config=settings),
        *running()[1:],
        *(point(step, 1 / step, lr=lr) for step in range(1, points + 1)),
        evaluated(1, accuracy),
        StateChanged(state=state),
    ]
    lines = [encode_line(msgspec.structs.replace(event, seq=n, time=at)) for n, event in enumerate(events)]
    (path / "journal.jsonl").write_bytes(b"".join(lines))
    (path / "config.toml").write_text(to_toml(settings))
    os.utime(path / "config.toml", (at, at))
    if seed is not None:
        predictions(right=accuracy, seed=seed).save(path / "best.predictions")
    return path


@contextmanager
def held(run: Path) -> Iterator[None]:
    """Have the run in an engine's hands meanwhile."""
    holder = Holder(pid=os.getpid(), host=socket.gethostname())
    with (run / "engine.lock").open("w") as lock:
        lock.write(json.dumps(msgspec.to_builtins(holder)))
        lock.flush()
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield
