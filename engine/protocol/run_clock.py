"""How long a run has trained, pauses left out."""

from finetui.engine.protocol.commands import NoteTest
from finetui.engine.protocol.events import CommandAccepted, Event, RunPrepared, StateChanged


class RunClock:
    """Adds up for how many `seconds` a run has trained, by the times of its events; 0 is of one that was not told."""

    def __init__(self) -> None:
        self.seconds = 0.0
        self._since: float | None = None

    def note(self, event: Event) -> None:
        """Take in `event`, the next one of the run."""
        match event:
            case CommandAccepted(command=NoteTest()):
                return  # may come at any time, also where no engine has the run
            case RunPrepared() | StateChanged(state="preparing"):
                self._since = None  # an engine that was killed has not told when it stopped training
        if self._since is not None and event.time:
            self.seconds += max(event.time - self._since, 0.0)
            self._since = event.time
        if isinstance(event, StateChanged):
            self._since = event.time or None if event.state == "running" else None
