"""One command to a live run, from the command line: sent to its engine, answered or refused."""

import threading
import time

from finetui.engine.errors import BadInput, FinetuiError
from finetui.engine.link.socket_link import NO_ANSWER, AttachLink
from finetui.engine.protocol.commands import AnyCommand
from finetui.engine.protocol.events import CommandAccepted, CommandRefused
from finetui.engine.protocol.queues import EventQueue
from finetui.engine.runs.folder import RunFolder

_POLL_SECONDS = 0.02


def ask(folder: RunFolder, command: AnyCommand) -> CommandAccepted:
    """Send `command` to the engine that has the run in `folder`, and return its answer.

    Raises `BadInput` when it is refused or nobody can be asked, `FinetuiError` when the engine ends without an answer.
    """
    link = AttachLink(folder)
    thread = threading.Thread(target=link.run, name="finetui-ask", daemon=True)
    thread.start()
    link.send(command)
    try:
        return _answer(link.events, thread, command)
    finally:
        link.close()
        thread.join()


def _answer(events: EventQueue, thread: threading.Thread, command: AnyCommand) -> CommandAccepted:
    while True:
        ended = not thread.is_alive()
        for event in events.drain():
            match event:
                case CommandAccepted(command=told) if told.id == command.id:
                    return event
                case CommandRefused(command=told, reason=reason) if told.id == command.id:
                    if reason in NO_ANSWER:
                        raise FinetuiError(f"{reason} without an answer")
                    raise BadInput(f"the run refused it: {reason}")
        if ended:
            raise FinetuiError("the engine has ended without an answer")
        time.sleep(_POLL_SECONDS)
