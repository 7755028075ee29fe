"""finetui without its dashboard: a session with its journal and checkpoints, as `finetui train` runs it."""

import tempfile
import time
from itertools import pairwise

from benchmarks.loops import LR, MOMENTUM
from finetui.engine.process.memory import keep_freed
from finetui.engine.protocol.config import DataConfig, RunConfig, RunSection, TrainingConfig
from finetui.engine.session.session import Session


def train(data_dir: str, batch_size: int, epochs: int, fast: str = "auto") -> list[float]:
    """Return the seconds of each epoch's steps, but for its first one, scaled to all of them."""
    keep_freed()  # as the engine's process does
    moments: list[float] = []
    settings = {"fast": fast, "optimizer": "sgd", "lr": LR, "momentum": MOMENTUM, "schedule": "constant"}
    with tempfile.TemporaryDirectory() as folder:
        config = RunConfig(
            data=DataConfig(name="mnist", dir=data_dir),
            training=TrainingConfig(epochs=epochs, batch_size=batch_size, **settings),
            run=RunSection(runs_dir=folder),
        )
        session = Session(config, on_step=lambda _step, _loss: moments.append(time.perf_counter()))
        session.run()
        steps = session.active.trainer.steps_per_epoch
    bounds = range(0, len(moments), steps)
    assert all(b - a == steps for a, b in pairwise(bounds))
    return [(moments[first + steps - 1] - moments[first]) * steps / (steps - 1) for first in bounds]
