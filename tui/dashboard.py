"""Opening the dashboard: the terminal is looked at first, and a summary stays on it afterwards."""

import os
import shutil
import sys

from engine.config import RunConfig
from engine.criteria import Choose
from engine.errors import BadInput
from engine.host import Inspection
from engine.link import CheckpointLink, JournalLink, Link
from engine.runs import RunFolder
from tui.screens.train import MIN_HEIGHT, MIN_WIDTH


def open_new_run(config: RunConfig, *, start: bool, images: str = "auto") -> int:
    """Open the dashboard on a new run and return the exit status; `images` is one of `tui.pictures.MODES`."""
    _check_terminal()
    from engine.process_link import ProcessLink

    return _run(ProcessLink(config, autostart=start), images)


def open_finished_run(
    folder: RunFolder,
    *,
    data: str | None = None,
    model: str = "lenet",
    images: str = "auto",
    errors: Choose | None = None,
) -> int:
    """Open the dashboard over the journal in `folder` and return the exit status.

    A person's own code that the run was made with has to be named as `data` and `model`, for its images to be shown.
    With `errors` begin with the test images that it lists.
    """
    _check_terminal()
    return _run(JournalLink(folder, data=data, model=model), images, errors)


def open_checkpoint(inspection: Inspection, errors: Choose, *, images: str = "auto") -> int:
    """Open the Errors screen on a checkpoint alone and return the exit status."""
    _check_terminal()
    return _run(CheckpointLink(inspection), images, errors)


def _check_terminal() -> None:
    if not (sys.stdin.isatty() and sys.stdout.isatty()):
        raise BadInput("the dashboard needs a terminal; without one use `finetui train`")
    if os.environ.get("TERM") == "dumb":
        raise BadInput("the dashboard needs a terminal that can place text, and TERM is dumb; use `finetui train`")
    size = shutil.get_terminal_size()
    if size.columns < MIN_WIDTH or size.lines < MIN_HEIGHT:
        raise BadInput(
            f"the dashboard needs a terminal of at least {MIN_WIDTH}x{MIN_HEIGHT}, and this one has "
            f"{size.columns}x{size.lines}; enlarge it, or use `finetui train`"
        )


def _run(link: Link, images: str, errors: Choose | None = None) -> int:
    from tui.app import FinetuiApp
    from tui.pictures import choose_mode

    # Now or never: once Textual reads the terminal, that can be asked nothing any more.
    app = FinetuiApp(link, image_mode=choose_mode(images), errors=errors)
    app.run()
    view = app.train_screen.store.view
    if view.path:
        best = "" if view.best_accuracy is None else f", best accuracy {view.best_accuracy:.2%}"
        state = "still running" if view.state == "running" else view.state
        print(f"{view.name}: {state} at step {view.step:,}{best}")
        print(f"  open it again:  finetui open {view.path}")
    if view.state in ("failed", "crashed"):
        print(f"finetui: {view.reason}", file=sys.stderr)
        return 1
    return app.return_code or 0
