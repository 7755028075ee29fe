"""Links that only show: the journal of a run that has ended or is another's, and a checkpoint without a run."""

import tempfile
import threading
from pathlib import Path

import msgspec

from finetui.engine.errors import FinetuiError
from finetui.engine.link.image_answers import ImageAnswers
from finetui.engine.link.inspection_client import InspectionClient
from finetui.engine.link.socket_link import crash_reason
from finetui.engine.protocol.capabilities import Capabilities, narrowed
from finetui.engine.protocol.commands import (
    QUESTIONS,
    AnyCommand,
    AuditParameters,
    Command,
    Evaluate,
    FetchImages,
    MeasureLayers,
)
from finetui.engine.protocol.events import (
    ENDED,
    AnyEvent,
    CommandRefused,
    Evaluated,
    Log,
    RunPrepared,
    State,
    StateChanged,
)
from finetui.engine.protocol.queues import EventQueue
from finetui.engine.protocol.requests import Inspection
from finetui.engine.protocol.values import AnyPart, Part
from finetui.engine.runs.folder import LAST_PREDICTIONS, RunFolder
from finetui.engine.runs.journal import JournalReader
from finetui.engine.runs.lock import is_live
from finetui.engine.runs.thinning import skipped, thinned

_FOLLOW_SECONDS = 0.5
_OWN_LOOP = "the loop has ended, and its network and data with it"
_SHOWN = "this dashboard only shows the run's journal"
_CHECKPOINT = "this is a checkpoint without its run"
# What a checkpoint answers; the others ask about steps that are being taken.
_OF_A_CHECKPOINT: tuple[type[Command], ...] = (
    *(kind for kind in QUESTIONS if kind not in (MeasureLayers, AuditParameters)),
    Evaluate,
)


class CheckpointLink:
    """A checkpoint without its run: evaluated once, and then asked about."""

    outlives = True
    steers = False
    attached = False
    over = False
    capabilities: Capabilities | None = narrowed(None, _OF_A_CHECKPOINT, _CHECKPOINT)

    def __init__(self, inspection: Inspection) -> None:
        self.events = EventQueue()
        self._closed = threading.Event()
        self._scratch = tempfile.TemporaryDirectory(prefix="finetui-")
        scratch = str(Path(self._scratch.name) / LAST_PREDICTIONS)
        self._client = InspectionClient(msgspec.structs.replace(inspection, scratch=scratch), self.events)

    def run(self) -> None:
        """Have it evaluated, and wait until somebody closes."""
        self._client.send(Evaluate())
        self._closed.wait()
        self._client.close()
        self._scratch.cleanup()

    def send(self, command: AnyCommand) -> None:
        """Have `command` answered, or refused."""
        self._client.send(command)

    def close(self) -> None:
        """Let the engine go."""
        self._closed.set()


class JournalLink:
    """A run as its journal tells it, finished or still going on elsewhere; it cannot be steered from here.

    Questions about its network and test images are answered, from its last checkpoint.
    """

    outlives = True
    steers = False
    attached = False
    over = False
    capabilities: Capabilities | None = None

    def __init__(self, folder: RunFolder, *, data: str | None = None, model: str = "lenet") -> None:
        """Take the run's folder; a person's own code that the run was made with has to be named again to be run."""
        # Everything is read before anything is shown, so nothing may be dropped on the way.
        self.events = EventQueue(limit=2**62)
        self._folder = folder
        self._closed = threading.Event()
        self._scratch = tempfile.TemporaryDirectory(prefix="finetui-")
        scratch = str(Path(self._scratch.name) / LAST_PREDICTIONS)
        inspection = Inspection(checkpoint=str(folder.last), data=data, model=model, scratch=scratch)
        self._client = InspectionClient(inspection, self.events)
        self._has_code = data is not None
        self._own_loop = False  # whether a person's own loop was the run
        self._watched: Part = "test"
        self._predictions: dict[AnyPart, Path] = {}
        self._images = ImageAnswers(self._predictions.get, self.events.put)

    def run(self) -> None:
        """Read the journal, and what is added to it for as long as its engine lives."""
        reader = JournalReader(self._folder.journal)
        size = self._folder.journal.stat().st_size if self._folder.journal.is_file() else 0
        state: State = "preparing"
        while not self._closed.is_set():
            live = is_live(self._folder)
            try:
                for event in thinned(reader, reader.glances(), size):
                    self._note(event)
                    self.events.put(self._as_shown(event))
                    state = event.state if isinstance(event, StateChanged) else state
                size = 0  # what is added from now on is little
            except FinetuiError as error:
                self.events.put(Log(level="error", message=str(error)))
                return
            if not live:
                break
            self._closed.wait(_FOLLOW_SECONDS)
        if not self._closed.is_set() and state not in ENDED:
            self.events.put(StateChanged(state="crashed", reason=crash_reason(self._folder, "", self._folder.log)))
        told = skipped(reader)
        if told is not None:
            self.events.put(told)

    def _as_shown(self, event: AnyEvent) -> AnyEvent:
        """Return `event`; it says of a run what can be had without whoever trained it."""
        if not isinstance(event, RunPrepared):
            return event
        return msgspec.structs.replace(event, capabilities=narrowed(None, self._answered(), self._only_shown()))

    def _answered(self) -> tuple[type[Command], ...]:
        """Return what is obeyed: of somebody's own loop only what needs neither its network nor its data."""
        return (FetchImages,) if self._own_loop and not self._has_code else _OF_A_CHECKPOINT

    def _only_shown(self) -> str:
        if is_live(self._folder):
            return f"{_SHOWN}; `finetui attach {self._folder.argument}` steers it"
        return _OWN_LOOP if self._own_loop else _SHOWN

    def _note(self, event: AnyEvent) -> None:
        """Learn where the images are that a person's own loop gave."""
        if isinstance(event, RunPrepared):
            self._own_loop = event.capabilities is not None
            self._watched = event.data.watched
        elif isinstance(event, Evaluated) and event.predictions:
            path = self._folder.path / Path(event.predictions).name
            self._watched = event.part if event.watched else self._watched
            self._predictions |= {event.part: path} | ({"": path} if event.watched else {})

    def send(self, command: AnyCommand) -> None:
        """Have a question answered, or a part evaluated, by what a checkpoint holds; refuse all else."""
        if not isinstance(command, self._answered()):
            self.events.put(CommandRefused(command=command, reason=self._only_shown()))
        elif self._own_loop and isinstance(command, FetchImages):
            self._images.ask(command)
        elif isinstance(command, Evaluate):
            # By itself it would take the test images where there are some.
            self._client.send(msgspec.structs.replace(command, part=command.part or self._watched))
        else:
            self._client.send(command)

    def close(self) -> None:
        """Stop reading."""
        self._closed.set()
        self._images.close()
        self._client.close()
        self._scratch.cleanup()
