"""What a real engine answers becomes sentences, and what was changed can be taken back."""

import re
from collections.abc import Callable

import msgspec
import pytest
from canned import LAYERS, layers, prepared

from finetui.engine.protocol.capabilities import Capabilities
from finetui.engine.protocol.commands import (
    AnyCommand,
    DescribeModel,
    Pause,
    RollBack,
    Save,
    SetFrozen,
    SetLearningRate,
    Stop,
)
from finetui.engine.protocol.events import (
    AnyEvent,
    CheckpointSaved,
    CommandAccepted,
    CommandRefused,
    KeptCheckpoint,
    LayersChanged,
    LearningRateChanged,
    Rewound,
    StateChanged,
)
from finetui.engine.session.session import Session
from finetui.tui.state.command_results import CommandResults
from finetui.tui.state.store import Store


class Dashboard:
    """A store and its answers, over a real session or over events that a test makes up."""

    def __init__(self) -> None:
        self.store, self.results, self.told = Store(), CommandResults(), []

    def hear(self, *events: AnyEvent) -> None:
        self.store.fold(events, self.results.hear)
        self.told += [answer.text for answer in self.results.take()]

    def sent(self, command: AnyCommand) -> AnyCommand:
        self.store.sent(command)
        return command

    def undo(self) -> AnyCommand:
        found = self.results.undo(self.store.view)
        assert not isinstance(found, str), found
        return self.sent(found)


def script(dashboard: Dashboard, *steps: tuple[int, Callable[[], AnyCommand]]) -> Callable[[int], AnyCommand | None]:
    waiting = list(steps)

    def give(step: int) -> AnyCommand | None:
        return dashboard.sent(waiting.pop(0)[1]()) if waiting and step >= waiting[0][0] else None

    return give


def test_a_run_that_is_steered_and_all_of_it_undone(make_config: Callable) -> None:
    here = Dashboard()
    steps = (
        (10, lambda: SetLearningRate(value=0.03)),
        (12, lambda: SetLearningRate(value=0.02)),
        (14, here.undo),
        (16, here.undo),
        (18, lambda: SetFrozen(groups=("conv1", "conv2"), frozen=True)),
        (20, lambda: SetFrozen(groups=("conv1", "conv2"), frozen=True)),
        (22, here.undo),
        (24, lambda: Save(name="mark")),
        (30, lambda: RollBack(checkpoint="mark")),
        (24, here.undo),
        (31, lambda: RollBack(checkpoint="none")),
        (32, Stop),
    )
    config = make_config(name="steered", epochs=2, schedule="cosine")
    Session(config, sinks=[here.hear], script=script(here, *steps)).run()
    assert [re.sub(r"0\.\d+(?= →)", "#", text) for text in here.told] == [
        "LR # → 0.03 (schedule x3.12) · u undo",
        "LR # → 0.02 (schedule x2.12) · u undo",
        "Undone: LR # → 0.0289 (schedule x3.12)",
        "Undone: LR # → 0.00905 (as scheduled)",
        "conv1, conv2 frozen (2,572 parameters) · u undo",
        "Nothing changed: already frozen",
        "Undone: conv1, conv2 unfrozen (2,572 parameters)",
        'Checkpoint "mark" saved at step 24',
        'Rolled back to "mark" (step 24); 6 steps undone · u undo until the next save',
        'Undone: Rolled back to "previous" (step 30)',
        here.told[10],
        "Stopped at step 32, checkpoint saved · s resume",
    ]
    assert here.told[10].startswith("Roll back to none: there is no checkpoint 'none'")
    assert not here.store.view.pending


def accepted(here: Dashboard, command: AnyCommand, *effects: AnyEvent) -> None:
    here.sent(command)
    here.hear(*effects, CommandAccepted(command=command, step=effects[-1].step if effects else 0))


@pytest.mark.parametrize(
    "obeyed,saved,says",
    [
        (("Stop", "Save"), True, "Stopped at step 7, checkpoint saved"),
        (("Stop",), False, "Stopped at step 7"),
        (("Stop", "Save", "Start"), True, "Stopped at step 7, checkpoint saved · s resume"),
    ],
)
def test_a_stopped_run_is_said_to_be_saved_or_resumable_where_it_is(
    obeyed: tuple[str, ...], saved: bool, says: str
) -> None:
    here = Dashboard()
    here.hear(prepared(capabilities=Capabilities(obeyed, "it is somebody's own loop")), StateChanged(state="running"))
    effects = [CheckpointSaved(file="last.ckpt", kept=(), step=7)] if saved else []
    accepted(here, Stop(), *effects, StateChanged(state="stopped", step=7))
    assert here.told == [says]


def test_what_cannot_be_taken_back_now_says_why() -> None:
    here = Dashboard()
    here.hear(prepared(), StateChanged(state="running"))
    assert "Nothing to undo" in here.results.undo(here.store.view)
    accepted(here, SetLearningRate(value=0.1), LearningRateChanged(learning_rate=0.1, factor=100.0, step=3))
    here.hear(StateChanged(state="finished"))
    assert "Cannot undo now: all epochs are done" in here.results.undo(here.store.view)
    here.hear(StateChanged(state="running"), back(step=1))
    assert here.results.undo(here.store.view) == "Nothing to undo: the run went back to step 1"
    # A later checkpoint takes the place of the one with the state that was left.
    kept = KeptCheckpoint(name="previous", file="previous.ckpt", step=9, epoch=1, at=7)
    accepted(here, RollBack(checkpoint="best"), back(step=2), CheckpointSaved(file="last.ckpt", kept=(kept,), step=2))
    here.hear(CheckpointSaved(file="last.ckpt", kept=(msgspec.structs.replace(kept, at=20),), step=5))
    assert "a later save has replaced" in here.results.undo(here.store.view)


def test_a_refused_undo_can_be_tried_again() -> None:
    here = Dashboard()
    here.hear(prepared(), StateChanged(state="running"))
    accepted(here, SetFrozen(groups=("conv1",), frozen=True), LayersChanged(layers=layers("conv1"), step=3))
    back = here.undo()
    assert (back.layers, back.frozen) == (("conv1",), False)
    here.hear(CommandRefused(command=back, reason="not now"))
    assert here.undo().layers == ("conv1",)


def test_others_and_questions_are_answered_nowhere_here() -> None:
    here = Dashboard()
    here.hear(prepared(), StateChanged(state="running"), CommandAccepted(command=Pause(by="ann")))
    here.hear(CommandRefused(command=here.sent(DescribeModel()), reason="all epochs are done"))
    assert here.told == []
    assert here.store.view.refusal is None
    assert not any("refused" in line.text for line in here.store.view.log)
    assert "Nothing to undo" in here.results.undo(here.store.view)


def test_a_journal_that_tells_no_factor_is_undone_by_the_rate_itself() -> None:
    here = Dashboard()
    here.hear(prepared(), StateChanged(state="running"), LearningRateChanged(learning_rate=0.5, step=1))
    accepted(here, SetLearningRate(value=0.1), LearningRateChanged(learning_rate=0.1, step=3))
    assert here.told == ["LR 0.5 → 0.1 · u undo"]
    assert (here.undo().value, here.store.view.rate_factor) == (0.5, None)


def back(step: int) -> Rewound:
    return Rewound(
        cause="rollback", file="best.ckpt", at=1, epoch=1, undone=1, learning_rate=1, layers=LAYERS, step=step
    )
