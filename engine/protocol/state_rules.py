"""Which command makes sense in which state: the engine refuses by this table, and a dashboard greys out by it."""

from finetui.engine.protocol.commands import (
    AnyCommand,
    Branch,
    DescribeModel,
    Evaluate,
    ExplainImage,
    FetchImages,
    FindDuplicates,
    FindLearningRate,
    MeasureLayers,
    Pause,
    PreviewFinetune,
    Resume,
    RollBack,
    Save,
    SetFrozen,
    SetFrozenNorm,
    SetLearningRate,
    Start,
    StartFinetune,
    StepOnce,
    Stop,
    ViewLayer,
)
from finetui.engine.protocol.events import State

_PREPARED: frozenset[State] = frozenset({"ready", "running", "paused", "stopped", "finished"})
_ALLOWED: dict[type[AnyCommand], frozenset[State]] = {
    Start: frozenset({"ready", "stopped"}),
    Pause: frozenset({"running"}),
    Resume: frozenset({"paused"}),
    StepOnce: frozenset({"paused"}),
    # While it prepares, an engine takes a stop as the wish to cancel (a download, say).
    Stop: frozenset({"preparing", "running", "paused"}),
    SetLearningRate: frozenset({"ready", "running", "paused", "stopped"}),
    SetFrozen: frozenset({"ready", "running", "paused", "stopped"}),
    SetFrozenNorm: frozenset({"ready", "running", "paused", "stopped"}),
    PreviewFinetune: _PREPARED,
    FetchImages: _PREPARED,
    ExplainImage: _PREPARED,
    FindDuplicates: _PREPARED,
    DescribeModel: _PREPARED,
    ViewLayer: _PREPARED,
    MeasureLayers: frozenset({"running"}),
    FindLearningRate: frozenset({"ready", "running", "paused", "stopped"}),
    StartFinetune: frozenset({"running", "paused", "stopped", "finished"}),
    Evaluate: _PREPARED,
    Save: frozenset({"running", "paused", "stopped", "finished"}),
    RollBack: frozenset({"running", "paused", "stopped", "finished"}),
    Branch: frozenset({"running", "paused", "stopped", "finished"}),
}

_WHY_NOT: dict[State, str] = {
    "preparing": "still getting ready",
    "ready": "training has not started",
    "running": "training is running",
    "paused": "training is paused",
    "finished": "all epochs are done",
    "stopped": "the run is stopped",
    "failed": "the run has failed",
    "crashed": "the engine is gone",
}


def refusal(command: type[AnyCommand], state: State) -> str | None:
    """Return why `command` makes no sense in `state`, as a phrase; None if it does."""
    return None if state in _ALLOWED[command] else _WHY_NOT[state]
