"""What a training step costs besides its mathematics, counted and not timed: the same on every machine."""

import sys
from collections import Counter
from pathlib import Path
from types import FrameType
from typing import Any

import pytest
import torch
from torch.utils._python_dispatch import TorchDispatchMode

from finetui.engine.protocol.events import StateChanged
from finetui.engine.runs.journal import Journal
from finetui.engine.runs.reporter import Reporter
from finetui.engine.session.loop import TrainingLoop
from finetui.engine.setup.prepare import prepare

# What there is now, with a little room for another torch. A step that reads a number from the device, sums up, logs or
# loops over parameters once more is well above.
MOST_CALLS = 165  # of Python functions, torch's own among them; 144 with torch 2.14
MOST_OURS = 31  # of them finetui's; 29 now
MOST_OPERATIONS = 40  # of torch, views left out; 37 now


class Operations(TorchDispatchMode):
    """Counts what torch computes."""

    def __init__(self) -> None:
        super().__init__()
        self.names: Counter[str] = Counter()

    def __torch_dispatch__(self, function: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        if not any(returned.alias_info for returned in function._schema.returns):  # views cost next to nothing
            self.names[str(function)] += 1
        return function(*args, **(kwargs or {}))


@pytest.fixture
def loop(make_config, monkeypatch: pytest.MonkeyPatch) -> TrainingLoop:
    """A training some steps after its begin, whose next step is not one that a point is due after."""
    monkeypatch.setattr("finetui.engine.training.metrics.POINT_INTERVAL", 1e9)
    config = make_config(batch_size=64, epochs=9)
    torch.manual_seed(0)
    prepared = prepare(config, lambda *_: None, lambda: False)
    loop = TrainingLoop(prepared, prepared.config, Reporter(Journal(), [], lambda: 0), lambda: False, None)
    loop.trainer.freezer.train_mode()
    for _ in range(12):
        loop.step()
    return loop


def test_a_step_makes_few_calls(loop: TrainingLoop) -> None:
    calls: Counter[str] = Counter()

    def note(frame: FrameType, event: str, _argument: object) -> None:
        if event == "call":
            calls[frame.f_code.co_filename] += 1

    sys.setprofile(note)
    loop.step()
    sys.setprofile(None)
    root = str(Path(__file__).parents[3] / "finetui" / "engine")
    ours = sum(count for name, count in calls.items() if name.startswith(root))
    print(ours, calls.total())
    assert ours <= MOST_OURS, calls
    assert calls.total() <= MOST_CALLS, calls


def test_a_step_computes_nothing_but_its_mathematics(loop: TrainingLoop) -> None:
    with Operations() as operations:
        loop.step()
    assert operations.names.total() <= MOST_OPERATIONS, operations.names
    # One look at the loss, before the step changes anything.
    assert operations.names["aten._local_scalar_dense.default"] == 1
    assert operations.names["aten._fused_sgd_.default"] == 1


def test_a_step_says_nothing_by_itself(loop: TrainingLoop) -> None:
    said: list[object] = []
    loop._reporter._sinks = [said.append]
    for _ in range(5):
        loop.step()
    assert not said
    loop._reporter.emit(StateChanged(state="running"))
    assert said
