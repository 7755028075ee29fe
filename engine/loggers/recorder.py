"""From a run's events to what a log is told."""

from collections.abc import Callable, Iterator

from finetui.engine.loggers.base import About, RunLog, point_values, score_values
from finetui.engine.protocol.events import (
    ENDED,
    Alert,
    AnyEvent,
    Evaluated,
    Event,
    LayersChanged,
    LearningRateChanged,
    ProvenanceTold,
    Rewound,
    StageStarted,
    StateChanged,
    TrainingChanged,
    TrainPoint,
)
from finetui.engine.protocol.values import LayerGroup
from finetui.engine.text import clean

_WORTH_A_NOTE = frozenset({"paused", "running", "finished", "stopped", "failed", "crashed"})
# What a log is told of.
WRITTEN: tuple[type[Event], ...] = (
    TrainPoint,
    Evaluated,
    ProvenanceTold,
    Rewound,
    LayersChanged,
    LearningRateChanged,
    StageStarted,
    TrainingChanged,
    Alert,
    StateChanged,
)


class Recorder:
    """Tells the log that `make` makes of each event that is worth it; a step is written once.

    `layers` is the run's layer table when it begins, or goes on.
    """

    def __init__(self, make: Callable[[], RunLog], about: About, layers: tuple[LayerGroup, ...]) -> None:
        self._make = make
        self._about = about
        self._frozen = _frozen(layers)
        self._log: RunLog | None = None
        self._evaluated: dict[tuple[str, str], int] = {}  # part and checkpoint: at which step
        self._failed = True  # until the run says that it has ended otherwise

    def take(self, event: AnyEvent) -> str:
        """Write `event`, and return a sentence that a person should read, if there is one.

        Raises as the log does; then `event` may be given again, to a new log.
        """
        if self._log is None:
            self._log = self._make()
        self._tell(self._log, event)
        self._log.flush()
        return self._log.take_hint()

    def give_up(self) -> None:
        """Have the log made anew with the next event."""
        log, self._log = self._log, None
        if log is not None:
            log.close(failed=True)

    def close(self) -> None:
        """End the log."""
        log, self._log = self._log, None
        if log is not None:
            log.close(failed=self._failed)

    def _tell(self, log: RunLog, event: AnyEvent) -> None:
        match event:
            case TrainPoint():
                log.point(event, point_values(event, self._about.groups))
            case Evaluated():
                which = event.part, event.checkpoint
                if self._evaluated.get(which) != event.step:
                    log.evaluated(event, score_values(event))
                    self._evaluated[which] = event.step
            case ProvenanceTold():
                log.comes_from(event.provenance)
            case Rewound():
                log.go_back(event)
                self._evaluated.clear()
        for text in self._notes(event):
            log.note(event.step, event.time, clean(text, 1000))
        match event:  # once it is written: a log that fails is told again
            case LayersChanged() | Rewound():
                self._frozen = _frozen(event.layers)
            case StateChanged():
                self._failed = event.state not in ENDED or event.state in ("failed", "crashed")

    def _notes(self, event: AnyEvent) -> Iterator[str]:
        match event:
            case LayersChanged():
                now = _frozen(event.layers)
                for word, names in (("freeze", now - self._frozen), ("thaw", self._frozen - now)):
                    if names:
                        yield f"{word} {', '.join(sorted(names))}"
            case LearningRateChanged():
                yield f"learning rate {event.learning_rate:g}"
            case StageStarted():
                yield f"stage {event.index} of {event.count}: {event.name}, learning rate {event.learning_rate:g}"
            case TrainingChanged():
                training = event.training
                yield (
                    f"other settings: {training.epochs} epochs, batches of {training.batch_size}, "
                    f"{training.optimizer}, {training.schedule}, learning rate {training.lr:g}"
                )
            case Rewound():
                how = {"resume": "resumed at", "rollback": "rolled back to", "branch": "branched at"}[event.cause]
                yield f"{how} step {event.step}" + (f": {event.reason}" if event.reason else "")
            case Alert():
                yield f"{event.kind}: {event.message}"
            case StateChanged() if event.state in _WORTH_A_NOTE:
                yield event.state + (f": {event.reason}" if event.reason else "")


def _frozen(layers: tuple[LayerGroup, ...]) -> frozenset[str]:
    """Return the names of what is frozen: groups, and layers of those that are frozen in part."""
    found = set()
    for group in layers:
        if group.frozen:
            found.add(clean(group.name))
        else:
            found |= {clean(layer.name) for layer in group.layers if layer.frozen}
    return frozenset(found)
