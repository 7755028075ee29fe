"""The form to train further: to how many epochs in all, and at which learning rate."""

import msgspec
from textual.widget import Widget

from finetui.engine.errors import BadInput
from finetui.engine.protocol.commands import ChangeTraining
from finetui.tui.keys import KEYS
from finetui.tui.screens.form import Form
from finetui.tui.state.parse_numbers import number, whole
from finetui.tui.state.view import View
from finetui.tui.widgets.form_rows import TextRow


class ExtendForm(Form[ChangeTraining]):
    """Asks how far the run in `view` is to go on; a finished one goes on at once, and without early stopping."""

    TITLE_TEXT = "Train further"
    APPLY = (KEYS["confirm"].shown, "Train further")

    def __init__(self, view: View) -> None:
        super().__init__()
        self._view = view
        self._epochs = view.config.training.epochs

    def rows(self) -> list[Widget]:
        """Epochs, half as many again by default, and the learning rate."""
        more = self._epochs + max(self._epochs // 2, 1)
        return [
            TextRow("epochs", "Total epochs", str(more)),
            TextRow("lr", "Learning rate", str(self._view.config.training.lr)),
        ]

    def read(self) -> ChangeTraining:
        """Return what was asked for. Raises `BadInput`."""
        epochs, rate = whole(self.text("epochs"), "total epochs"), number(self.text("lr"), "learning rate")
        trained = self._view.epoch
        if epochs <= trained:
            many = f"{trained:,} epochs are already" if trained != 1 else "1 epoch is already"
            begun = f"{many} trained" if self._view.state == "finished" else f"epoch {trained:,} has started"
            raise BadInput(f"total epochs: {begun}; enter a larger number")
        training = msgspec.structs.replace(self._view.config.training, epochs=epochs, lr=rate)
        early_stop = 0 if self._view.state == "finished" else self._view.config.guards.early_stop
        return ChangeTraining(training=training, early_stop=early_stop)

    def words(self, found: ChangeTraining) -> str:
        """Return what becomes of the schedule."""
        training = found.training
        change = f"{training.epochs:,} epochs instead of {self._epochs:,}"
        if training.schedule == "constant":
            return f"{change}; constant learning rate {training.lr:g}"
        rate = f"{'peak' if training.schedule == 'one-cycle' else 'initial'} learning rate {training.lr:g}"
        return f"{change}; {training.schedule} over all {training.epochs:,}, {rate}"
