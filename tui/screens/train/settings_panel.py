"""The settings that a run trains by, a line each."""

from collections.abc import Sequence

from textual.content import Content

from finetui.engine.protocol.config import RunConfig
from finetui.engine.text import clean
from finetui.tui.state.empty import no_settings
from finetui.tui.state.numbers import rate
from finetui.tui.state.view import View
from finetui.tui.widgets.lines_view import LinesView

Setting = tuple[str, str]


def brief_settings(config: RunConfig) -> str:
    """Return the settings that are asked for most, in a few words."""
    training = config.training
    return f"{training.optimizer} · {training.schedule} · batch {training.batch_size:,}"


def settings(view: View) -> list[Setting]:
    """Return name and value of each setting, those that were left off without one."""
    if view.hparams is not None:  # somebody else's: the defaults of finetui say nothing
        told = (
            (name, f"{value:g}" if isinstance(value, float) else str(value)) for name, value in view.hparams.items()
        )
        return [(clean(name, 40), clean(value)) for name, value in told]
    training, data = view.config.training, view.config.data
    momentum = f", momentum {training.momentum:g}" if training.optimizer == "sgd" else ""
    warmup = f", {training.warmup_epochs:g} epochs of warm-up" if training.warmup_epochs else ""
    found = [
        ("optimizer", f"{training.optimizer}{momentum}"),
        ("schedule", f"{training.schedule}{warmup}"),
        ("base lr", rate(training.lr)),
        ("lr factor", "" if view.rate_factor in (None, 1.0) else f"x{view.rate_factor:.3g}"),
        ("weight decay", rate(training.weight_decay)),
        ("batch size", f"{training.batch_size:,}"),
        ("augmentation", data.augment),
        ("label smoothing", f"{training.label_smoothing:g}" if training.label_smoothing else ""),
        ("class weights", training.class_weights if training.class_weights != "none" else ""),
        ("sampling", training.sampling if training.sampling != "shuffle" else ""),
        ("seed", f"{training.seed}"),
        ("precision", training.precision),
        ("compile", training.compile if training.compile != "off" else ""),
        ("weights", view.config.model.weights),
        ("early stop", f"{view.config.guards.early_stop} epochs" if view.config.guards.early_stop else ""),
        ("images", view.data.loader.partition(" of ")[0].replace(",", "") if view.data is not None else ""),
        ("device", view.device),
    ]
    return [(name, value) for name, value in found if value]


class SettingsPanel(LinesView[Setting], can_focus=False):
    """Shows the settings of a run."""

    def __init__(self) -> None:
        super().__init__(id="settings")
        self._of: Sequence[object] = ()

    def show_view(self, view: View) -> None:
        """Bring the panel up to date with `view`."""
        of = (view.config, view.data, view.device, view.rate_factor, view.hparams)
        if of != self._of:
            self._of = of
            self.show(settings(view))
            self.say(no_settings(view) if view.data is not None else "")

    def content_of(self, row: Setting, width: int) -> Content:
        """Return name and value."""
        name, value = row
        return Content.assemble((f"{name:<16}", "$muted"), value)
