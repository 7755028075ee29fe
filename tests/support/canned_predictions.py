"""Predictions as a file, and a link that answers questions about their images, without torch."""

from pathlib import Path

import numpy as np
from canned import CannedLink

from finetui.engine.predictions.file import Files, Origin, Predictions
from finetui.engine.predictions.images import picture
from finetui.engine.protocol.commands import AnyCommand, ExplainImage, FetchImages, FindDuplicates
from finetui.engine.protocol.events import AnyEvent, CommandRefused, DuplicatesFound, Explained, Images

DIGITS = tuple("0123456789")


def predictions(
    n: int = 200, classes: tuple[str, ...] = DIGITS, *, seed: int = 0, right: float = 0.7, paths: tuple[str, ...] = ()
) -> Predictions:
    """Return predictions of `n` images, about a share `right` of them right; one label in twenty is wrong."""
    random = np.random.default_rng(seed)
    images = np.random.default_rng(99)  # the same images whatever the seed
    truth = images.integers(0, len(classes), n)
    labels = np.where(images.random(n) < 0.05, (truth + 1) % len(classes), truth)
    logits = random.normal(size=(n, len(classes)))
    helped = random.random(n) < right
    logits[np.arange(n)[helped], truth[helped]] += 6
    probabilities = np.exp(logits) / np.exp(logits).sum(1, keepdims=True)
    order = np.argsort(-probabilities, 1, kind="stable")[:, :10]
    top = np.take_along_axis(probabilities, order, 1)
    own = probabilities[np.arange(n), labels]
    hit = order[:, 0] == labels
    columns = {
        "index": np.arange(n),
        "label": labels,
        "predicted": order[:, 0],
        "confidence": top[:, 0],
        "loss": -np.log(own),
        "margin": own - np.where(hit, top[:, 1] if len(classes) > 1 else 0, top[:, 0]),
    }
    origin = Origin(classes=classes, data="mnist", run="a-run", step=100)
    return Predictions(origin, columns, order.astype(np.int32), top.astype(np.float32), Files.of(paths))


class AnsweringLink(CannedLink):
    """Answers questions about images as an engine would: image i is all of grey i."""

    def __init__(self, *events: AnyEvent, duplicates: tuple[tuple[int, int], ...] = (), side: int = 28) -> None:
        super().__init__(*events)
        self.duplicates = duplicates
        self.side = side

    def send(self, command: AnyCommand) -> None:
        super().send(command)
        match command:
            case FetchImages():
                grey = [np.full((self.side, self.side, 1), index % 256, np.uint8) for index in command.indices]
                shown = tuple(picture(image, index) for image, index in zip(grey, command.indices, strict=True))
                self.events.put(Images(command=command, pictures=shown))
            case FindDuplicates():
                self.events.put(DuplicatesFound(command=command, pairs=self.duplicates))
            case ExplainImage(method="occlusion"):
                self.events.put(CommandRefused(command=command, reason="it cannot be occluded"))
            case ExplainImage():
                values = np.linspace(-1, 1, 28 * 28, dtype="<f4").tobytes()
                answer = Explained(
                    command=command,
                    step=100,
                    target=command.target or 0,
                    height=28,
                    width=28,
                    values=values,
                    probability=0.875,
                    layer="conv2",
                )
                self.events.put(answer)

    def asked(self, kind: type[AnyCommand]) -> list[AnyCommand]:
        """Return the questions of this kind that were sent."""
        return [command for command in self.sent if isinstance(command, kind)]


def saved(folder: Path, found: Predictions, name: str = "last.predictions") -> Path:
    """Write `found` into `folder` and return the file."""
    folder.mkdir(parents=True, exist_ok=True)
    found.save(folder / name)
    return folder / name
