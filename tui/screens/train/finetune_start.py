"""From the key to a new run: the finetune form over whatever is shown, and who is to train what it asks for."""

from pathlib import Path
from typing import TYPE_CHECKING

from finetui.engine.link.base import Link
from finetui.engine.protocol.commands import FinetunePlan, StartFinetune
from finetui.engine.runs.folder import RunFolder
from finetui.tui.screens.toast import ShowToast
from finetui.tui.screens.train.finetune import FinetuneForm
from finetui.tui.screens.train.messages import FinetuneWanted

if TYPE_CHECKING:
    from finetui.tui.screens.train.screen import TrainScreen


def ask_finetune(train: "TrainScreen", link: Link, checkpoint: str = "") -> None:
    """Open the form for the run of `train`, which is shown by `link`, or say why there is none.

    `checkpoint` is the kept one whose weights it proposes. What is asked for is sent to the run's engine; where it has
    none, the program is asked to start one.
    """
    view = train.store.view
    alone = view.lacks_engine
    why_not = view.refusal_of(StartFinetune)
    if why_not is not None:
        train.app.post_message(ShowToast(f"Finetune: {why_not}", "refusal", warns=True))
        return
    if not alone and not link.steers:
        words = f"finetui finetune {RunFolder(Path(view.path)).argument} --dashboard"
        train.app.post_message(ShowToast.to_copy(words))
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
