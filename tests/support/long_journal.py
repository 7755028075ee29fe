"""A journal of a long run, made in a moment."""

from pathlib import Path

import msgspec

from finetui.engine.protocol.events import AnyEvent, Log, StateChanged, TrainPoint
from finetui.engine.runs.journal import encode_line


def long_journal(path: Path, points: int, spike: int) -> None:
    """Write the journal `path` with so many train points; that at `spike` has a loss of 99, the next 0 % accuracy."""
    loss = [0.5 + (i % 7) / 100 for i in range(points)]
    loss[spike] = 99.0
    with path.open("wb") as file:
        seq = 0

        def write(event: AnyEvent) -> None:
            nonlocal seq
            file.write(encode_line(msgspec.structs.replace(event, seq=seq)))
            seq += 1

        write(StateChanged(state="running"))
        for i in range(points):
            if i % 50_000 == 0:
                write(Log(level="info", message=str(i)))
            write(
                TrainPoint(
                    epoch=1,
                    step=i + 1,
                    step_in_epoch=i + 1,
                    steps=1,
                    loss=loss[i],
                    accuracy=0.0 if i == spike + 1 else 0.5 + i % 3 / 10,
                    learning_rate=0.1,
                    grad_norm=1.0,
                    samples_per_second=100.0,
                    group_grad_norms=(1.0, 2.0, 3.0, 4.0, 5.0),
                )
            )
