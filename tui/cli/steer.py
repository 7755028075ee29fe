"""Asking the engine that has a run: by its socket or, to end one that cannot be reached there, by a signal."""

import os
import signal
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress

from finetui.engine.errors import BadInput, FinetuiError
from finetui.engine.link.attach_link import AttachLink
from finetui.engine.link.socket_link import NO_ANSWER, SocketLink, own_name
from finetui.engine.protocol.commands import AnyCommand, RollBack, Stop
from finetui.engine.protocol.events import (
    Answer,
    AnyEvent,
    Audience,
    CommandAccepted,
    CommandRefused,
    State,
    StateChanged,
)
from finetui.engine.runs.folder import RunFolder
from finetui.engine.runs.lock import Holder, holder_of, is_live
from finetui.engine.runs.summaries import summarise_run

Reply = CommandAccepted | CommandRefused | Answer

_POLL_SECONDS = 0.02
_REMARK_SECONDS = 10.0  # until it is said that this takes a while
_LEAVING_SECONDS = 3.0  # for the engine to leave, once it is stopped and nobody else watches
_SIGNAL_SECONDS = 60.0


@contextmanager
def running(link: SocketLink) -> Iterator[Iterator[AnyEvent]]:
    """Run `link` until the block is left, which closes it; what is yielded are its events, up to its end."""
    thread = threading.Thread(target=link.run, name="finetui-link", daemon=True)
    thread.start()
    try:
        yield _events(link, thread)
    finally:
        link.close()
        thread.join()


def _events(link: SocketLink, thread: threading.Thread) -> Iterator[AnyEvent]:
    while True:
        ended = not thread.is_alive()
        yield from link.events.drain()
        if ended:
            return
        time.sleep(_POLL_SECONDS)


def ask(link: AttachLink, command: AnyCommand, note: Callable[[AnyEvent], None] = lambda _: None) -> Reply:
    """Send `command` to the engine at the other end of `link`, and return its answer; `note` is shown every event.

    Where the engine ends without one, the link refuses the command (see `NO_ANSWER`).
    """
    with running(link) as events:
        link.send(command)
        for event in events:
            note(event)
            if isinstance(event, Reply) and event.command.id == command.id:
                return event
    raise AssertionError("a link that ends refuses what was not answered")


def roll_back(folder: RunFolder, checkpoint: str, rate_factor: float) -> str:
    """Take the live run in `folder` back to its `checkpoint`, and return in a line where it is now.

    Raises `BadInput` when it is refused or nobody can be asked, `FinetuiError` when the engine ends without an answer.
    """
    answer = ask(AttachLink(folder), RollBack(checkpoint=checkpoint, rate_factor=rate_factor))
    if isinstance(answer, CommandAccepted):
        return f"{folder.name}: rolled back to {checkpoint}, step {answer.step:,}"
    assert isinstance(answer, CommandRefused), "it is no question"
    if answer.reason in NO_ANSWER:
        raise FinetuiError(f"{answer.reason} without an answer")
    raise BadInput(f"the run refused: {answer.reason}")


def stop_run(folder: RunFolder) -> str:
    """Have the run in `folder` saved and stopped, wait for it, and return in a line how that ended.

    Raises `BadInput` when no engine has it, or one that cannot be told from here, and `FinetuiError` when it fails.
    """
    try:
        link = AttachLink(folder, name=f"finetui stop by {own_name()}")
    except BadInput:
        there = holder_of(folder)
        if there is None or not there.is_here:
            raise
        return _terminate(folder, there)
    seen = _Seen()
    remark = threading.Timer(_REMARK_SECONDS, _remark)
    remark.daemon = True
    remark.start()
    try:
        answer = ask(link, Stop(), seen.note)
    finally:
        remark.cancel()
    # An engine that ends without an answer has ended, as it should.
    refused = answer.reason if isinstance(answer, CommandRefused) and answer.reason not in NO_ANSWER else None
    if seen.state == "crashed":
        raise FinetuiError(seen.reason)
    if refused is not None and seen.state not in ("finished", "stopped"):
        raise FinetuiError(f"the run {folder.name} was not stopped: {refused}")
    if seen.alone:
        _wait_until_free(folder, _LEAVING_SECONDS)
    already = "already " if refused is not None else ""
    why = f" ({seen.reason})" if seen.reason else ""
    return f"{folder.name}: {already}{seen.state} at step {seen.step:,}{why}"


class _Seen:
    """What a run's events tell of it."""

    def __init__(self) -> None:
        self.state: State = "preparing"
        self.reason = ""
        self.step = 0
        self.alone = True

    def note(self, event: AnyEvent) -> None:
        """Keep what `event` tells."""
        self.step = event.step if event.seq >= 0 else self.step
        match event:
            case StateChanged():
                self.state, self.reason = event.state, event.reason
            case Audience():
                self.alone = len(event.names) <= 1


def _remark() -> None:
    print("finetui: waiting for the engine to save and stop ...", file=sys.stderr, flush=True)


def _wait_until_free(folder: RunFolder, seconds: float) -> bool:
    deadline = time.monotonic() + seconds
    while is_live(folder):
        if time.monotonic() > deadline:
            return False
        time.sleep(_POLL_SECONDS)
    return True


def _terminate(folder: RunFolder, there: Holder) -> str:
    """Signal the process that has the run, once it is certain that it is that one; it saves, and ends."""
    if not has_open(there.pid, folder):
        raise BadInput(
            f"the run {folder.name} is in use by {there}, which cannot be reached, and may not be the "
            f"process {there.pid} of this machine; stop it yourself"
        )
    with suppress(ProcessLookupError):  # it has just ended
        os.kill(there.pid, signal.SIGTERM)
    if not _wait_until_free(folder, _SIGNAL_SECONDS):
        raise FinetuiError(
            f"the process {there.pid} was asked to stop, and is still running after {_SIGNAL_SECONDS:g} s"
        )
    summary = summarise_run(folder)
    how = "ended" if summary is None else f"{summary.state} at step {summary.step:,}"
    return f"{folder.name}: {how} (process {there.pid} could only be reached by a signal)"


def has_open(pid: int, folder: RunFolder) -> bool:
    """Tell whether the process `pid` of this machine has the lock file of the run in `folder` open."""
    import psutil

    lock = os.path.realpath(folder.lock)
    try:
        return any(file.path == lock for file in psutil.Process(pid).open_files())
    except (psutil.Error, OSError, ValueError):
        return False
