"""Opening the dashboard: the terminal is looked at first, and a summary stays on it afterwards."""

import gc
import os
import shutil
import sys
import traceback
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from finetui.engine.errors import BadInput
from finetui.engine.link.base import Link
from finetui.engine.link.journal_link import CheckpointLink, JournalLink
from finetui.engine.link.no_link import NoLink
from finetui.engine.predictions.criteria import Choose
from finetui.engine.protocol.config import RunConfig
from finetui.engine.protocol.requests import Inspection
from finetui.engine.runs.folder import RunFolder
from finetui.engine.text import clean
from finetui.tui.app.links import link_to_run, link_to_watched
from finetui.tui.screens.train.screen import MIN_HEIGHT, MIN_WIDTH

if TYPE_CHECKING:
    from finetui.engine.sources.recognise import Found
    from finetui.engine.sources.watched_runs import WatchedRuns
    from finetui.tui.app.app import FinetuiApp
    from finetui.tui.app.notifications import Notify
    from finetui.tui.screens.start.card import StartCard

# What Textual has shown and takes away is garbage in circles: 3 MB and 60 ms at a time by Python's own thresholds.
_COLLECTIONS = (700, 10, 3)
_GOODBYE_SECONDS = 0.5  # for what was sent last to reach an engine that goes on


def open_new_run(
    config: RunConfig,
    *,
    start: bool,
    images: str = "auto",
    notify: "Notify" = "off",
    resume: RunFolder | None = None,
    resume_from: str = "",
) -> int:
    """Open the dashboard on a new run and return the exit status; `images` is one of `finetui.tui.graphics.MODES`.

    `notify` is how alerts and the run's end are told to somebody who looks elsewhere. `resume` is the folder of a run,
    configured by `config`, that goes on instead, from its last checkpoint or the one that is kept as `resume_from`.
    """
    _check_terminal()
    from finetui.engine.link.process_link import ProcessLink

    return _run(ProcessLink(config, autostart=start, resume=resume, resume_from=resume_from), images, notify=notify)


def open_first(base: RunConfig, models: Sequence[str], *, images: str = "auto", notify: "Notify" = "off") -> int:
    """Open the dashboard on a card that asks what to train over the settings `base`, and return the exit status.

    `models` are the names of models that there are.
    """
    _check_terminal()
    from finetui.tui.screens.start.card import StartCard

    return _run(NoLink(), images, first=StartCard(base, models), notify=notify)


def open_attached(folder: RunFolder, *, reading: bool = False, images: str = "auto", notify: "Notify" = "off") -> int:
    """Open the dashboard on the run in `folder`, which an engine has now, and return the exit status.

    With `reading` the run cannot be steered from it. Raises `BadInput` when no engine has it, or none within reach.
    """
    _check_terminal()
    from finetui.engine.link.attach_link import AttachLink

    return _run(AttachLink(folder, reading=reading), images, notify=notify)


def open_finished_run(
    folder: RunFolder,
    *,
    data: str | None = None,
    model: str = "lenet",
    images: str = "auto",
    errors: Choose | None = None,
    finetune: str = "",
    notify: "Notify" = "off",
) -> int:
    """Open the dashboard over the journal in `folder` and return the exit status.

    A person's own code that the run was made with has to be named as `data` and `model`, for its images to be shown.
    With `errors` begin with the test images that it lists, with `finetune` with the form for a finetune from that
    checkpoint.
    """
    _check_terminal()
    return _run(JournalLink(folder, data=data, model=model), images, errors, finetune=finetune, notify=notify)


def open_watched(
    watched: "WatchedRuns", only: "Found | None", *, images: str = "auto", notify: "Notify" = "off"
) -> int:
    """Open the dashboard on the `only` run of those that are `watched`, else on their list; return the exit status."""
    _check_terminal()
    link: Link = NoLink()
    if only is not None:
        link = link_to_watched(Path(only.place), watched) or link_to_run(RunFolder(only.path), reading=True)
    return _run(link, images, notify=notify, watched=watched)


def open_checkpoint(inspection: Inspection, errors: Choose, *, images: str = "auto") -> int:
    """Open the Errors screen on a checkpoint alone and return the exit status."""
    _check_terminal()
    return _run(CheckpointLink(inspection), images, errors)


def _check_terminal() -> None:
    if not (sys.stdin.isatty() and sys.stdout.isatty()):
        raise BadInput("the dashboard needs a terminal; without one use `finetui train`, `finetui log RUN` or --json")
    if os.environ.get("TERM") == "dumb":
        raise BadInput("the dashboard needs a terminal that can move the cursor, but TERM is dumb; use `finetui train`")
    size = shutil.get_terminal_size()
    if size.columns < MIN_WIDTH or size.lines < MIN_HEIGHT:
        raise BadInput(
            f"the dashboard needs a terminal of at least {MIN_WIDTH}x{MIN_HEIGHT}, but this one is "
            f"{size.columns}x{size.lines}; enlarge it, or use `finetui train`"
        )


def _run(
    link: Link,
    images: str,
    errors: Choose | None = None,
    *,
    finetune: str = "",
    first: "StartCard | None" = None,
    notify: "Notify" = "off",
    watched: "WatchedRuns | None" = None,
) -> int:
    from finetui.tui.app.app import FinetuiApp
    from finetui.tui.app.shutdown import ShutdownOnSignal
    from finetui.tui.colours.depth import colour_depth
    from finetui.tui.graphics import choose_mode
    from finetui.tui.terminal.log_file import DashboardLog
    from finetui.tui.terminal.terminal import Terminal

    gc.set_threshold(*_COLLECTIONS)
    terminal, log = Terminal(), DashboardLog()
    with ShutdownOnSignal(terminal) as shutdown:
        # Now or never: once Textual reads the terminal, that can be asked nothing any more.
        depth = colour_depth()
        mode = choose_mode(images, depth=depth)
        app = FinetuiApp(
            link,
            image_mode=mode,
            errors=errors,
            finetune=finetune,
            first=first,
            terminal=terminal,
            is_leaving=shutdown.begun,
            notify=notify,
            depth=depth,
            watched=watched,
        )
        shutdown.dashboard = app
        with log.takes_output():
            _run_app(app)
            link = app.link  # another one, where a run was begun or gone on with
            app.link_ended.wait(_GOODBYE_SECONDS if link.outlives else None)
    terminal.close()
    return _take_leave(app, link, log.path)


def _take_leave(app: "FinetuiApp", link: Link, log: Path) -> int:
    """Say how the run behind `link` stands, or what went wrong with `app`; return the exit status."""
    from finetui.tui.app import exit_summary

    app.train_screen.store.fold(link.events.drain())  # how an engine of this process has ended
    view = app.train_screen.store.view
    if app.failure is not None:
        what = clean(" ".join(f"{type(app.failure).__name__}: {app.failure}".split()))
        outlook = f"; {app.outlook()}" if app.outlook() else ""
        print(f"finetui: the dashboard failed ({what}){outlook}; details are in {log}", file=sys.stderr)
        return 1
    for line in exit_summary.summary(view, outlives=link.outlives):
        print(line)
    if view.state in ("failed", "crashed"):
        print(f"finetui: {view.reason}", file=sys.stderr)
        return 1
    return app.return_code or 0


def _run_app(app: "FinetuiApp") -> None:
    """Run `app` until it is left; what goes wrong on the way out is logged and kept like what went wrong before."""
    try:
        app.run()
    except Exception as error:  # noqa: BLE001  # the summary tells of it
        traceback.print_exception(error, file=sys.__stderr__)
        app.failure = app.failure or error
        app.link.close()
