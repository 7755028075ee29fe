"""A run again, from its journal: the same start, every change at the step where it had been made, the same end."""

import math
from collections.abc import Iterable, Sequence

import msgspec

from finetui.engine.checkpoints import checkpoint
from finetui.engine.data import Transform
from finetui.engine.data.recorded_data import RecordedData, load_images
from finetui.engine.distributed.ranks import Ranks
from finetui.engine.errors import BadInput
from finetui.engine.protocol.commands import (
    AnyCommand,
    ChangeTraining,
    Save,
    SetFrozen,
    SetFrozenNorm,
    SetLearningRate,
    Stop,
)
from finetui.engine.protocol.config import RunConfig
from finetui.engine.protocol.description import DataDescription
from finetui.engine.protocol.events import (
    AnyEvent,
    CheckpointSaved,
    CommandAccepted,
    FeaturesChanged,
    LearningRateChanged,
    ProvenanceTold,
    RunPrepared,
    TrainingChanged,
)
from finetui.engine.protocol.provenance import Provenance, differences
from finetui.engine.protocol.queues import CommandQueue
from finetui.engine.runs.derived import free_name
from finetui.engine.runs.folder import RunFolder
from finetui.engine.runs.journal import JournalReader
from finetui.engine.runs.lineage import effective
from finetui.engine.runs.reporter import Sink
from finetui.engine.runs.resume import check_trained_by_engine
from finetui.engine.session.session import Session
from finetui.engine.setup.prepared import Beginning
from finetui.engine.setup.recorded_data import recorded_data


class Recording(msgspec.Struct, frozen=True):
    """What a journal tells of a run that still holds: undone lines are left out.

    `changes` are the commands that changed what is trained, each with the steps completed when it took effect;
    `weights` the SHA-256 of the weights after so many steps; `end` the step of the last checkpoint; `trainable` the
    number of parameters that trained at first. `provenance` is that of the engine that has trained it, of runs of
    earlier versions only the packages that they tell of.
    """

    config: RunConfig
    begun: Beginning
    steps_per_epoch: int
    changes: tuple[tuple[int, AnyCommand], ...]
    weights: dict[int, str]
    end: int
    trainable: int = 0
    provenance: Provenance = Provenance()


class Replayed(msgspec.Struct, frozen=True):
    """How a replay ended. `compared` counts the checkpoints whose weights were compared, up to the first difference.

    `different_at` is the step of that one; None where all are the same. `otherwise` says what is not as it was then.
    """

    folder: RunFolder
    recording: Recording
    compared: int
    different_at: int | None
    complete: bool
    otherwise: tuple[str, ...] = ()


def read_recording(folder: RunFolder) -> Recording:
    """Return what the journal in `folder` tells. Raises `BadInput` where that is not enough for a replay."""
    check_trained_by_engine(folder)
    held = effective(JournalReader(folder.journal).read())
    prepared = next((event for event in held if isinstance(event, RunPrepared)), None)
    if prepared is None:
        raise BadInput(f"the journal of {folder.name} does not say how the run began, so it cannot be replayed")
    saved = {event.step: event.weights for event in held if isinstance(event, CheckpointSaved) and event.weights}
    if not saved:
        raise BadInput(f"the run {folder.name} has written no checkpoint that a replay could be compared with")
    end = max(saved)
    changes = tuple((step, command) for step, command in _changes(held) if step <= end)
    transform, known = _seen(folder, prepared.description)
    switched = (e for e in held if isinstance(e, FeaturesChanged) and e.state in ("on", "off"))
    features = tuple((e.step, e.state == "on", e.layers) for e in switched)
    begun = Beginning(
        prepared.fast, prepared.rules, prepared.data.train_size, transform, known, features, prepared.world
    )
    trainable = sum(group.trainable for group in prepared.layers)
    told = [event.provenance for event in held if isinstance(event, ProvenanceTold)]
    provenance = told[-1] if told else Provenance(packages=prepared.versions, device=prepared.device)
    return Recording(prepared.config, begun, prepared.steps_per_epoch, changes, saved, end, trainable, provenance)


def _seen(folder: RunFolder, described: DataDescription | None) -> tuple[Transform | None, RecordedData | None]:
    """Return the run's input transform and its images, which earlier versions found by other rules; None: not known."""
    try:
        found = checkpoint.find(folder)[0]
    except BadInput:
        return None, None if described is None else RecordedData(described, load_images(folder.images))
    known = (
        recorded_data(found.path, found.about)
        if described is None
        else RecordedData(described, load_images(folder.images))
    )
    return found.about.transform, known


def _changes(events: Iterable[AnyEvent]) -> Iterable[tuple[int, AnyCommand]]:
    for event in events:
        match event:
            # Also a rollback that slows down says which rate holds from there on.
            case LearningRateChanged():
                yield event.step, SetLearningRate(value=event.learning_rate, factor=event.factor, by="replay")
            case TrainingChanged():
                yield event.step, ChangeTraining(training=event.training, early_stop=event.early_stop, by="replay")
            case CommandAccepted(command=SetFrozen() | SetFrozenNorm() as command):
                yield event.step, msgspec.structs.replace(command, by="replay")


class _Script:
    """Gives each change at its step, saves where there is something to compare with, and stops at the end."""

    def __init__(self, recording: Recording) -> None:
        # At the end of an epoch, and at the beginning, a run saves by itself; with other batches that is elsewhere.
        same = min((step for step, change in recording.changes if isinstance(change, ChangeTraining)), default=math.inf)
        saves = (step for step in recording.weights if step % recording.steps_per_epoch or step > same)
        wanted: list[tuple[int, AnyCommand]] = [*((step, Save(by="replay")) for step in saves), *recording.changes]
        self._waiting = [*sorted(wanted, key=lambda item: item[0]), (recording.end, Stop(by="replay"))]

    def __call__(self, step: int) -> AnyCommand | None:
        return self._waiting.pop(0)[1] if self._waiting and step >= self._waiting[0][0] else None


def _config(recorded: RunConfig, folder: RunFolder, name: str) -> RunConfig:
    """Return the configuration of the run that replays the one in `folder`, beside it."""
    runs_dir = folder.path.absolute().parent
    section = msgspec.structs.replace(
        recorded.run,
        name=name or free_name(runs_dir, f"{folder.path.name}-replay"),
        runs_dir=str(runs_dir),
        log=(),  # the same figures once more
    )
    return msgspec.structs.replace(recorded, run=section)


def replay_run(
    folder: RunFolder,
    *,
    name: str = "",
    commands: CommandQueue | None = None,
    sinks: Sequence[Sink] = (),
    ranks: Ranks | None = None,
) -> Replayed:
    """Run what the journal in `folder` tells again, as a new run beside it; compare the weights where it saved some.

    `name` is the new run's, by default the old one's with `-replay`. It is computed by the path, and with as many
    threads, as then: the last digits depend on it. So they do on how many processes train, which a warning says where
    they are not as many. `ranks` are as in `Session`, and each calls this; only the first one can tell how it ended.
    Raises as `Session.run` does.
    """
    recording = read_recording(folder)
    config = _config(recording.config, folder, name)
    seen: dict[int, str] = {}
    now = recording.provenance

    def note(event: AnyEvent) -> None:
        nonlocal now
        if isinstance(event, CheckpointSaved):
            seen[event.step] = event.weights
        elif isinstance(event, ProvenanceTold):
            now = event.provenance

    changes = _Script(recording)
    first = True

    def script(step: int) -> AnyCommand | None:
        nonlocal first
        # Earlier versions trained what the network's own code had frozen.
        if first and session.active is not None:
            first = False
            if session.active.trainer.freezer.trainable() != recording.trainable:
                session.active.trainer.train_owners_frozen()
        return changes(step)

    session = Session(
        config, commands=commands, sinks=[*sinks, note], script=script, begun=recording.begun, ranks=ranks
    )
    outcome = session.run()
    assert outcome.folder is not None, "a run that has taken a step has a folder"
    common = sorted(seen.keys() & recording.weights.keys())
    different = next((step for step in common if seen[step] != recording.weights[step]), None)
    otherwise = tuple(differences(recording.provenance, now))
    return Replayed(outcome.folder, recording, len(common), different, recording.end in seen, otherwise)
