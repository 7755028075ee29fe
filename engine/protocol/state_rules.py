"""Which command makes sense in which state: the engine refuses by this table, and a dashboard greys out by it."""

from finetui.engine.protocol import commands, events
from finetui.engine.protocol.capabilities import Capabilities

_PREPARED: frozenset[events.State] = frozenset({"ready", "running", "paused", "stopped", "finished"})
_ALLOWED: dict[type[commands.AnyCommand], frozenset[events.State]] = {
    commands.Start: frozenset({"ready", "stopped"}),
    commands.Pause: frozenset({"running"}),
    commands.Resume: frozenset({"paused"}),
    commands.StepOnce: frozenset({"paused"}),
    # While it prepares, an engine takes a stop as the wish to cancel (a download, say).
    commands.Stop: frozenset({"preparing", "running", "paused"}),
    commands.SetLearningRate: frozenset({"ready", "running", "paused", "stopped"}),
    commands.SetFrozen: frozenset({"ready", "running", "paused", "stopped"}),
    commands.SetFrozenNorm: frozenset({"ready", "running", "paused", "stopped"}),
    commands.ChangeTraining: _PREPARED,
    commands.PreviewFinetune: _PREPARED,
    commands.FetchImages: _PREPARED,
    commands.ExplainImage: _PREPARED,
    commands.FindDuplicates: _PREPARED,
    commands.DescribeModel: _PREPARED,
    commands.ViewLayer: _PREPARED,
    commands.MeasureLayers: frozenset({"running"}),
    commands.AuditParameters: frozenset({"running"}),
    commands.FindLearningRate: frozenset({"ready", "running", "paused", "stopped"}),
    commands.StartFinetune: frozenset({"running", "paused", "stopped", "finished"}),
    commands.Evaluate: _PREPARED,
    commands.NoteTest: _PREPARED,
    commands.Save: frozenset({"running", "paused", "stopped", "finished"}),
    commands.RollBack: frozenset({"running", "paused", "stopped", "finished"}),
    commands.Branch: frozenset({"running", "paused", "stopped", "finished"}),
}

HAS_ENDED = "the engine has ended"
_WHY_NOT: dict[events.State, str] = {
    "preparing": "the run is still being prepared",
    "ready": "training has not started",
    "running": "training is running",
    "paused": "training is paused",
    "finished": "all epochs are done",
    "stopped": "the run is stopped",
    "failed": "the run has failed",
    "crashed": "the engine is gone",
}


def refusal(
    command: type[commands.AnyCommand], state: events.State, capabilities: Capabilities | None = None
) -> str | None:
    """Return why `command` makes no sense in `state`, or ever with `capabilities`, as a phrase; None if it does."""
    if capabilities is not None and (never := capabilities.refusal(command)) is not None:
        return never
    return None if state in _ALLOWED[command] else _WHY_NOT[state]
