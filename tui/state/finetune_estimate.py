"""How long a finetune would take, by how fast the run that it starts from has trained."""

from typing import NamedTuple

from finetui.engine.protocol.answers import FinetunePreview
from finetui.tui.state.view import View


class Estimate(NamedTuple):
    """Seconds that each stage of a finetune takes; `at_most`: less, where what is frozen is computed only once."""

    stages: tuple[float, ...]
    at_most: bool

    @property
    def words(self) -> str:
        """All of it in words."""
        about = duration(sum(self.stages))
        return f"up to about {about}" if self.at_most else f"about {about}"


def estimate(preview: FinetunePreview, view: View, images: int | None) -> Estimate | None:
    """Return how long the stages of `preview` take on `images` training images; None where that cannot be told.

    Seconds per image are those of the run in `view`, by how much less of a step is computed in a stage; evaluations
    are as long as that run's last one.
    """
    known = _work_of(preview, view)
    if not images or not view.speed or known is None:
        return None
    evaluation = view.evaluation.seconds if view.evaluation is not None else 0.0
    seconds = []
    for stage in preview.stages:
        if stage.work is None:
            return None
        epochs = stage.last_epoch - stage.first_epoch + 1
        seconds.append(epochs * (images / view.speed * stage.work / known + evaluation))
    config = view.config
    kept = config.training.features == "cache" and config.data.augment == "none"
    return Estimate(tuple(seconds), kept and any(stage.frozen for stage in preview.stages))


def _work_of(preview: FinetunePreview, view: View) -> float | None:
    """Return the share of a whole step that the run in `view` computes now; None where that is not known."""
    if view.features is not None:
        return None
    used = [group for group in view.layers if group.in_use]
    trains = {group.name for group in used if group.trainable}
    if all(group.trainable == group.parameters for group in used):
        return 1.0
    return next((stage.work for stage in preview.stages if set(stage.trains) == trains), None)


def duration(seconds: float) -> str:
    """Return a number of seconds in words, to two digits: 40 s, 3 min, 1.5 h."""
    if seconds < 100:
        return f"{max(round(seconds), 1)} s"
    if seconds < 100 * 60:
        return f"{round(seconds / 60)} min"
    hours = seconds / 3600
    return f"{hours:.1f} h" if hours < 10 else f"{hours:,.0f} h"
