"""Questions about a run that nobody trains any more: an engine is started for them, with the first one."""

import threading

from finetui.engine.errors import BadInput
from finetui.engine.link.process_link import ProcessLink
from finetui.engine.protocol.commands import AnyCommand, Stop
from finetui.engine.protocol.events import (
    Answer,
    AnyEvent,
    CommandAccepted,
    CommandRefused,
    Evaluated,
    Phase,
    StateChanged,
)
from finetui.engine.protocol.queues import EventQueue
from finetui.engine.protocol.requests import Inspection


class _Relay(EventQueue):
    """Passes on what answers a command, not what becomes of the engine that answers."""

    def __init__(self, target: EventQueue) -> None:
        super().__init__()
        self._target = target
        self._unanswered: dict[str, AnyCommand] = {}
        self._guard = threading.Lock()
        self.failure = ""

    def expect(self, command: AnyCommand) -> None:
        with self._guard:
            self._unanswered[command.id] = command

    def put(self, event: AnyEvent) -> None:
        if isinstance(event, Answer | CommandAccepted | CommandRefused):
            with self._guard:
                waited = self._unanswered.pop(event.command.id, None) is not None
            if waited:
                self._target.put(event)
        elif isinstance(event, Phase | Evaluated):
            self._target.put(event)
        elif isinstance(event, StateChanged) and event.state in ("failed", "crashed"):
            self.failure = event.reason
            with self._guard:
                unanswered, self._unanswered = list(self._unanswered.values()), {}
            for command in unanswered:
                self._target.put(CommandRefused(command=command, reason=event.reason))


class InspectionClient:
    """Has questions about `inspection` answered into `events` by an engine process of its own."""

    def __init__(self, inspection: Inspection, events: EventQueue) -> None:
        self._inspection = inspection
        self._events = events
        self._lock = threading.Lock()
        self._link: ProcessLink | None = None
        self._relay = _Relay(events)
        self._closed = False

    def send(self, command: AnyCommand) -> None:
        """Send `command`, starting the engine if need be; what cannot be answered is refused."""
        try:
            with self._lock:
                if self._closed:
                    raise BadInput("nobody is there any more to be answered")
                if self._relay.failure:
                    # It would fail in the same way again.
                    raise BadInput(self._relay.failure)
                self._relay.expect(command)
                if self._link is None or self._link.over:
                    self._link = ProcessLink(self._inspection, events=self._relay)
                    threading.Thread(target=self._link.run, name="finetui-inspection", daemon=True).start()
                self._link.send(command)
        except BadInput as error:
            self._events.put(CommandRefused(command=command, reason=str(error)))

    def close(self) -> None:
        """Let the engine go, whatever it is at."""
        with self._lock:
            self._closed = True
            if self._link is not None:
                self._link.send(Stop())
                self._link.close()
