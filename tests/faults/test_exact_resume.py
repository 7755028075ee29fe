"""A run that is cut and resumed ends as one that was not: the same weights and the same optimizer, bit for bit."""

from pathlib import Path
from typing import Any

import msgspec
import pytest
import torch
from steered import at

from finetui.engine.checkpoints import checkpoint
from finetui.engine.protocol.commands import AnyCommand, RollBack, Save, SetFrozen, SetLearningRate, Stop
from finetui.engine.protocol.config import CheckpointsConfig, RunConfig
from finetui.engine.protocol.config_file import load
from finetui.engine.protocol.events import CommandAccepted, Evaluated, LearningRateChanged, Rewound
from finetui.engine.runs.folder import RunFolder
from finetui.engine.runs.journal import JournalReader
from finetui.engine.runs.lineage import effective
from finetui.engine.runs.summaries import summarise_run
from finetui.engine.session.session import Session

STEPS = 80  # two epochs of 4 000 images in batches of 100


def run(config: RunConfig, *lines: tuple[int, AnyCommand]) -> RunFolder:
    folder = Session(config, script=at(*lines)).run().folder
    assert folder is not None
    return folder


def resume(folder: RunFolder, *lines: tuple[int, AnyCommand]) -> RunFolder:
    found = Session(load(folder.config), resume=folder, script=at(*lines)).run()
    assert found.folder == folder
    return folder


def differences(a: Any, b: Any, where: str = "") -> list[str]:
    """Return the places where two nested values differ, tensors bit for bit."""
    if isinstance(a, torch.Tensor):
        return [] if isinstance(b, torch.Tensor) and torch.equal(a, b) else [where]
    if isinstance(a, dict):
        keys = a.keys() | b.keys()
        return [d for key in sorted(keys) for d in differences(a.get(key), b.get(key), f"{where}/{key}")]
    return [] if a == b else [f"{where}: {a!r} != {b!r}"]


def assert_same_end(cut: RunFolder, whole: RunFolder) -> None:
    (_, weights, training), (_, expected, expected_training) = (checkpoint.load(f.last) for f in (cut, whole))
    assert checkpoint.digest(weights) == checkpoint.digest(expected)
    # Each journal has a numbering of its own, and points fall where the clock wants them: their sums round differently.
    own = ("at", "alerts", "train_loss", "meter")
    kept, wanted = ({k: v for k, v in t.items() if k not in own} for t in (training, expected_training))
    assert differences(kept, wanted) == []
    accuracies = [[e.accuracy for e in line(f) if isinstance(e, Evaluated)] for f in (cut, whole)]
    assert accuracies[0] == accuracies[1]


def line(folder: RunFolder) -> list:
    return effective(JournalReader(folder.journal).read())


CASES = {
    "sgd": {},
    "adamw": {"optimizer": "adamw", "lr": 0.001, "weight_decay": 0.01},
    "nesterov and decay": {"nesterov": True, "weight_decay": 0.01},
    "step": {"schedule": "step", "step_epochs": 1},
    "cosine with warm-up": {"schedule": "cosine", "warmup_epochs": 0.5},
    "one-cycle": {"schedule": "one-cycle"},
    "balanced": {"sampling": "balanced", "class_weights": "balanced", "label_smoothing": 0.1},
}


@pytest.mark.parametrize("cuts", [(77,), pytest.param((1, 40, 64, 77, 149), marks=pytest.mark.slow)], ids=str)
@pytest.mark.parametrize("case", CASES)
def test_a_run_that_is_stopped_and_resumed_ends_as_one_that_was_not(make_config, case: str, cuts: tuple) -> None:
    """Row 19: every schedule and optimizer, cut after the first step, between two epochs, and within one."""
    epochs = 2 if max(cuts) < STEPS else 4
    whole = run(make_config(epochs=epochs, name="whole", **CASES[case]))
    for cut in cuts:
        folder = resume(run(make_config(epochs=epochs, name=f"cut-{cut}", **CASES[case]), (cut, Stop())))
        assert_same_end(folder, whole)


@pytest.mark.parametrize("loader", ["resident", "stream"])
def test_augmentation_and_workers_go_on_where_they_were(make_config, loader: str) -> None:
    """Row 19: augmented images, in memory and decoded by two worker processes, cut within the second epoch."""
    base = make_config(epochs=2, name="whole")
    data = msgspec.structs.replace(base.data, augment="standard", loader=loader)
    whole = run(msgspec.structs.replace(base, data=data))
    other = msgspec.structs.replace(base, data=data, run=msgspec.structs.replace(base.run, name="cut"))
    assert_same_end(resume(run(other, (64, Stop()))), whole)


def test_dropout_draws_what_it_would_have_drawn(make_config, tmp_path: Path) -> None:
    """Row 19: the global random generator is part of the state."""
    (tmp_path / "net.py").write_text(
        "from torch import nn\n"
        "def make(num_classes):\n"
        "    return nn.Sequential(nn.Flatten(), nn.Linear(784, 32), nn.BatchNorm1d(32), nn.ReLU(), nn.Dropout(0.5), "
        "nn.Linear(32, num_classes))\n"
    )

    def config(name: str) -> RunConfig:
        base = make_config(epochs=2, name=name)
        return msgspec.structs.replace(
            base, model=msgspec.structs.replace(base.model, name=f"{tmp_path / 'net.py'}:make")
        )

    whole = run(config("whole"))
    assert_same_end(resume(run(config("cut"), (55, Stop()))), whole)


def test_a_run_is_resumed_from_the_last_periodic_checkpoint_when_it_was_not_stopped(make_config) -> None:
    """Row 19: what came after the checkpoint is undone, and done again."""
    whole = run(make_config(epochs=2, name="whole"))
    config = make_config(epochs=2, name="cut")
    config = msgspec.structs.replace(config, checkpoints=CheckpointsConfig(every_steps=20, every_minutes=0))

    class Pulled(BaseException):
        """The plug."""

    def pull(step: int, _loss: torch.Tensor) -> None:
        if step == 55:
            raise Pulled

    session = Session(config, on_step=pull)
    with pytest.raises(Pulled):
        session.run()
    assert session.folder is not None
    folder = resume(session.folder)
    assert_same_end(folder, whole)
    (rewound,) = [event for event in line(folder) if isinstance(event, Rewound)]
    assert rewound.step % 20 == 0 and 0 < rewound.step < 55
    assert (
        rewound.undone
        == max(e.step for e in JournalReader(folder.journal).read() if e.seq < rewound.seq) - rewound.step
    )
    steps = [event.step for event in line(folder) if event.step]
    assert steps == sorted(steps)


def test_an_evaluation_that_was_cut_is_made_up_for(make_config, monkeypatch: pytest.MonkeyPatch) -> None:
    """Row 19: stopped between the end of an epoch and the end of its evaluation."""
    from finetui.engine.protocol.queues import CommandQueue

    whole = run(make_config(epochs=2, name="whole"))
    commands = CommandQueue()
    monkeypatch.setattr("finetui.engine.inspection.evaluation.EVALUATION_BATCH", 100)

    def stop_in_evaluation(event: Any) -> None:
        if getattr(event, "name", "") == "Evaluating" and 0 < event.done < event.total:
            commands.put(Stop())

    cut = Session(make_config(epochs=2, name="cut"), commands=commands, sinks=[stop_in_evaluation]).run().folder
    assert cut is not None
    assert [event for event in line(cut) if isinstance(event, Evaluated)] == []
    assert_same_end(resume(cut), whole)


HANDS: dict[str, list[tuple[int, AnyCommand]]] = {
    "freeze": [(30, SetFrozen(groups=("conv1", "conv2"), frozen=True))],
    "freeze and thaw": [(10, SetFrozen(groups=("fc1",), frozen=True)), (30, SetFrozen(groups=("fc1",), frozen=False))],
    "rate": [(30, SetLearningRate(value=0.02))],
    "rollback": [(20, Save(name="mark")), (30, RollBack(checkpoint="mark", rate_factor=0.5))],
}


@pytest.mark.parametrize("cut", [31, 50])
@pytest.mark.parametrize("case", HANDS)
def test_what_was_done_by_hand_is_resumed_as_well(make_config, case: str, cut: int) -> None:
    """Row 20: changed at a step, cut right after it or later, by hand and in the middle of a thaw's warm-up."""
    settings = {"epochs": 2, "optimizer": "adamw", "lr": 0.001, "schedule": "cosine"}
    whole = run(make_config(name="whole", **settings), *HANDS[case])
    # A script goes by steps, and a rollback takes these again: the cut comes after all that was done.
    folder = resume(run(make_config(name="cut", **settings), *HANDS[case], (cut, Stop())))
    assert_same_end(folder, whole)
    kinds = {type(command) for _, command in HANDS[case]}
    told = {type(event.command) for event in line(folder) if isinstance(event, CommandAccepted)}
    assert kinds - {Save} <= told


def test_a_rollback_is_the_state_that_it_goes_back_to(make_config) -> None:
    """Row 20: a run that goes astray and is rolled back ends as one that never did."""
    whole = run(make_config(epochs=2, name="whole"))
    astray = [
        (40, Save(name="good")),
        (45, SetLearningRate(value=0.5)),
        (46, SetFrozen(groups=("conv1",), frozen=True)),
        (60, RollBack(checkpoint="good")),
    ]
    folder = run(make_config(epochs=2, name="astray"), *astray)
    assert_same_end(folder, whole)
    told = line(folder)
    assert [event for event in told if isinstance(event, LearningRateChanged)] == []
    assert [event.step for event in told if isinstance(event, Rewound)] == [40]


def test_resuming_twice_and_a_damaged_last_checkpoint(make_config) -> None:
    """Row 19 and 17: cut, resumed, cut again; then the last checkpoint is damaged, and the one before it serves."""
    whole = run(make_config(epochs=2, name="whole"))
    folder = resume(run(make_config(epochs=2, name="cut"), (15, Stop())), (50, Stop()))
    damaged = bytearray(folder.last.read_bytes())
    damaged[len(damaged) // 2] ^= 4
    folder.last.write_bytes(damaged)
    resume(folder)
    assert_same_end(folder, whole)
    rewound = [event for event in JournalReader(folder.journal).read() if isinstance(event, Rewound)]
    assert [event.cause for event in rewound] == ["resume", "resume"]
    assert rewound[-1].file == "previous.ckpt"
    assert "damaged" in rewound[-1].reason
    summary = summarise_run(folder)
    assert summary is not None
    assert (summary.state, summary.step) == ("finished", STEPS)
