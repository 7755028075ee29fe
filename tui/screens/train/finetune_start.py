"""From the key to a new run: the finetune form over whatever is shown, and who is to train what it asks for."""

from pathlib import Path
from typing import TYPE_CHECKING

from finetui.engine.link.base import Link
from finetui.engine.protocol.commands import FinetunePlan, StartFinetune
from finetui.engine.runs.folder import RunFolder
from finetui.tui.screens.toast import ShowToast
from finetui.tui.screens.train.finetune import FinetuneForm
from finetui.tui.screens.train.messages import FinetuneWanted
from finetui.tui.state.view import View

if TYPE_CHECKING:
    from finetui.tui.screens.train.screen import TrainScreen


def ask_finetune(train: "TrainScreen", link: Link, checkpoint: str = "") -> None:
    """Open the form for the run of `train`, which is shown by `link`, or say why there is none.

    `checkpoint` is the kept one whose weights it proposes. What is asked for is sent to the run's engine; where it has
    none, the program is asked to start one.
    """
    view = train.store.view
    alone = _needs_engine(view, link)
    if not alone and not link.steers and link.attached and view.path:
        words = f"finetui finetune {RunFolder(Path(view.path)).argument} --dashboard"
        train.app.post_message(ShowToast.to_copy(words))
        return
    why_not = "" if alone else _why_not(view, link)
    if why_not:
        train.app.post_message(ShowToast(f"Finetune: {why_not}", "refusal", warns=True))
        return

    def begin(plan: FinetunePlan | None) -> None:
        if plan is None:
            return
        if alone:
            own = link.steers and not link.attached
            train.post_message(FinetuneWanted(Path(view.path), own=own, plan=plan))
        else:
            train.send(StartFinetune(plan=plan))
        train.come_to_top()

    train.app.push_screen(FinetuneForm(train.store, train.asker, checkpoint), begin)


def _needs_engine(view: View, link: Link) -> bool:
    """Return whether a finetune of the run needs an engine of its own: the run has none, or none that is shown here."""
    only_shown = not link.steers and not link.attached
    return bool(view.path and view.kept) and (only_shown or view.state in ("failed", "crashed"))


def _why_not(view: View, link: Link) -> str:
    if not link.steers:
        return "there is no checkpoint to begin with"
    return view.refusal_of(StartFinetune) or ""
