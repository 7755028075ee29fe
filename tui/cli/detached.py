"""Training in an engine process of its own, without a dashboard: this process only waits until it has begun."""

import sys
import threading
import time

from finetui.engine.errors import BadInput, FinetuiError
from finetui.engine.link.process_link import ProcessLink
from finetui.engine.protocol.config import RunConfig
from finetui.engine.protocol.events import ENDED, AnyEvent, Log, StateChanged
from finetui.engine.runs import journal
from finetui.engine.runs.folder import RunFolder
from finetui.tui.cli.printers import LinePrinter

_POLL_SECONDS = 0.05
_EXIT_SECONDS = 15.0  # that an engine which has told of its failure may take to end
_BAD_INPUT = 2  # the exit status of an engine that could not use what it was given


def train_detached(config: RunConfig, *, resume: RunFolder | None = None, resume_from: str = "") -> int:
    """Have an engine process train `config`, wait until it has begun, say how to get at it, and return 0.

    `resume` is the folder of a run, configured by `config`, that goes on from its last checkpoint, or from the one that
    is kept as `resume_from`. Raises `BadInput` and `FinetuiError` where it does not begin.
    """
    past = journal.last_event(resume.journal) if resume is not None and resume.journal.is_file() else None
    link = ProcessLink(config, autostart=True, detached=True, resume=resume, resume_from=resume_from)
    thread = threading.Thread(target=link.run, name="finetui-detached", daemon=True)
    thread.start()
    try:
        begun = _wait(link, thread, after=-1 if past is None else past.seq)
    except KeyboardInterrupt:
        link.terminate()  # nothing has begun, and nothing shall
        raise
    finally:
        link.close()
        thread.join()
    if begun.state in ("failed", "crashed"):
        raise (BadInput if link.wait(_EXIT_SECONDS) == _BAD_INPUT else FinetuiError)(begun.reason)
    assert link.folder is not None, "a run that has begun has a folder"
    run = link.folder.argument
    print(f"{link.folder.name}: {begun.state} in the background, process {link.pid}")
    print(f"  watch and steer it:  finetui attach {run}")
    print(f"  end it:              finetui stop {run}")
    return 0


def _wait(link: ProcessLink, thread: threading.Thread, *, after: int) -> StateChanged:
    """Return the first event that tells that training has begun, or will not; the journal's up to `after` are past."""
    printer = LinePrinter()
    while True:
        ended = not thread.is_alive()
        for event in link.events.drain():
            if 0 <= event.seq <= after:
                continue
            if isinstance(event, StateChanged) and (event.state == "running" or event.state in ENDED):
                return event
            _show(event, printer)
        if ended:
            raise FinetuiError("the engine process ended before training began")
        time.sleep(_POLL_SECONDS)


def _show(event: AnyEvent, printer: LinePrinter) -> None:
    if isinstance(event, Log):
        print(event.message, file=sys.stderr, flush=True)
    else:
        printer.show(event)
