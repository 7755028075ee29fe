"""What is kept and shown of a watched loop: its folder, its journal, its socket; nothing of it in a forked child."""

import os
import time
import weakref
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager

import msgspec
from torch import nn

from finetui.engine.errors import describe
from finetui.engine.machine.watch import MachineWatch
from finetui.engine.process.endpoint import Endpoint
from finetui.engine.protocol import events
from finetui.engine.protocol.commands import AnyCommand
from finetui.engine.protocol.config import RunConfig
from finetui.engine.protocol.queues import CommandQueue
from finetui.engine.runs.folder import RunFolder
from finetui.engine.runs.reporter import Reporter
from finetui.engine.runs.run_writer import RunWriter
from finetui.engine.watching.provenance import LoopProvenance

_open: "weakref.WeakSet[Record]" = weakref.WeakSet()


class _Commands(CommandQueue):
    """Commands for the next step boundary; those that `aside` takes are carried out elsewhere."""

    def __init__(self, aside: Callable[[AnyCommand], bool]) -> None:
        super().__init__()
        self._aside = aside

    def put(self, command: AnyCommand) -> None:
        if not self._aside(command):
            super().put(command)


class Record:
    """A run's folder, journal and socket, for as long as it is open; `step` is asked for the steps completed.

    `aside(command)`, called in the thread of the socket, tells whether it has taken the command; `forsaken` is called
    in each child that is forked. `model` is what is trained.
    """

    def __init__(
        self,
        config: RunConfig,
        default_name: str,
        step: Callable[[], int],
        aside: Callable[[AnyCommand], bool] = lambda _command: False,
        forsaken: Callable[[], None] = lambda: None,
        model: nn.Module | None = None,
    ) -> None:
        """Make the folder of a new run, and listen. Raises `BadInput` where there can be no such folder."""
        self.commands = _Commands(aside)
        self._complaints: deque[str] = deque()
        self._warned: set[str] = set()
        self._step, self._forsaken = step, forsaken
        self.is_ours = True  # until this is a forked child
        self.state: events.State = "preparing"  # what the run does
        self.endpoint = Endpoint(self.commands, config.run.linger_minutes, complain=self._complaints.append)
        self._writer = RunWriter(str(self.endpoint.path or ""))
        try:
            self.folder: RunFolder = self._writer.create(config, default_name)
        except BaseException:
            self.endpoint.remove_socket()
            self.endpoint.forsake()
            raise
        self._machine = MachineWatch(self.endpoint.publish)
        self.reporter = Reporter(self._writer.journal, [self.endpoint.publish], step, self._machine_sample)
        self.endpoint.__enter__()
        self.endpoint.follow(self._writer.journal)
        self._machine.settle(self.folder.path)
        self._machine.__enter__()
        _open.add(self)
        self.reporter.emit(events.StateChanged(state=self.state))
        self._provenance: LoopProvenance | None = None
        with self._beside_it():
            self._provenance = LoopProvenance(model)

    @property
    def next_seq(self) -> int:
        """The number of the next event."""
        return self._writer.journal.next_seq

    def set_state(self, state: events.State, reason: str = "") -> None:
        """Be `state` from now on, and report it with `reason`, if that is news."""
        if reason or state != self.state:
            self.state = state
            self.reporter.emit(events.StateChanged(state=state, reason=reason))

    def answer(self, event: events.AnyEvent) -> None:
        """Show `event`, which is never journaled, from any thread."""
        self.endpoint.publish(msgspec.structs.replace(event, step=self._step(), time=time.time()))

    def warn_once(self, message: str) -> None:
        """Journal a warning that may come up again and again."""
        if message not in self._warned:
            self._warned.add(message)
            self.reporter.warn(message)

    def tell_what_came(self, last: bool = False) -> None:
        """Journal what has come, or went wrong, beside the loop: the `last` time all of it."""
        while self._complaints:
            self.reporter.warn(self._complaints.popleft())
        look = self._provenance
        if look is not None:
            with self._beside_it():
                if last or look.ready():
                    self._provenance = None
                    self.reporter.emit(events.ProvenanceTold(provenance=look.found(last)))

    @contextmanager
    def _beside_it(self) -> Iterator[None]:
        """Say what goes wrong with the provenance, which is worth neither a run nor its loop."""
        try:
            yield
        except Exception as error:  # noqa: BLE001  # it may look at anybody's code
            self._provenance = None
            self.reporter.warn(f"the run's provenance is incomplete: {describe(error)}")

    def end(self, state: events.State, reason: str) -> None:
        """Be `state` for good, journaled last, and close; each is tried whatever became of the one before."""
        with ExitStack() as stages:  # the last one comes first
            stages.callback(self.close)
            stages.callback(self.set_state, state, reason)
            stages.callback(self.tell_what_came, True)

    def close(self) -> None:
        """Say goodbye, and give the folder up; it is given up whatever goes wrong before."""
        _open.discard(self)
        with ExitStack() as stages:  # the last one comes first
            stages.callback(self._writer.release)
            stages.callback(self.endpoint.__exit__)
            stages.callback(self.tell_what_came, True)
            stages.callback(self._machine.__exit__, None, None, None)

    def _machine_sample(self) -> events.MachineSample | events.Log | None:
        return self._machine.due() if self.state in ("running", "paused") else None

    def forsake(self) -> None:
        """In a forked child: hold nothing of what is the parent's, and write none of it."""
        self.is_ours = False
        if self._provenance is not None:
            self._provenance.forsake()
            self._provenance = None
        self.endpoint.forsake()
        self._writer.forsake()
        self._forsaken()


def _forsake_all() -> None:
    """After a fork, in the child: its parent's runs are none of its own."""
    for record in list(_open):
        record.forsake()
    _open.clear()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_forsake_all)
