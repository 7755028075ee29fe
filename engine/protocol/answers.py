"""What the engine answers to questions: events that are meant for whoever asked, and never journaled."""

from finetui.engine.protocol.audit import Audit
from finetui.engine.protocol.commands import AnyCommand
from finetui.engine.protocol.event import Event
from finetui.engine.protocol.values import ModuleRow, Picture, StagePreview


class Answer(Event, frozen=True, kw_only=True):
    """Base of the answers to questions: transient, and meant for whoever asked `command`."""

    command: AnyCommand


class FinetunePreview(Answer, frozen=True, kw_only=True):
    """What a finetuning plan would do. `problem` is one sentence when it cannot be carried out.

    `reused`, `renamed`, `dropped` and `fresh` name layers whose weights are kept, kept under another name, left
    behind, and new. `curve` has points (epochs trained, learning rate of the layers that train at the highest one) from
    the first step to the last.
    """

    problem: str = ""
    head: str = ""
    notices: tuple[str, ...] = ()
    stages: tuple[StagePreview, ...] = ()
    total_parameters: int = 0
    reused: tuple[str, ...] = ()
    renamed: tuple[str, ...] = ()
    dropped: tuple[str, ...] = ()
    fresh: tuple[str, ...] = ()
    curve: tuple[tuple[float, float], ...] = ()


class Images(Answer, frozen=True, kw_only=True):
    """The images that a `FetchImages` asked for, in its order."""

    pictures: tuple[Picture, ...]


class Explained(Answer, frozen=True, kw_only=True):
    """What speaks for (positive) and against class `target`: float32 `[height, width]`, largest magnitude 1.

    `layer` is the layer that Grad-CAM looked at. `probability` is that of `target` by the weights used, those after
    `step` steps.
    """

    target: int
    height: int
    width: int
    values: bytes
    probability: float
    layer: str = ""


class DuplicatesFound(Answer, frozen=True, kw_only=True):
    """Pairs of an image of the part asked about and a training image, by index, that are the same pixel by pixel.

    `names` are the paths of the training images, in the order of `pairs`; there are none for images without files.
    """

    pairs: tuple[tuple[int, int], ...]
    names: tuple[str, ...] = ()


class ModelDescribed(Answer, frozen=True, kw_only=True):
    """The module tree for an input of shape `input` (without the batch); `seconds` is one image's forward pass."""

    input: tuple[int, ...]
    modules: tuple[ModuleRow, ...]
    seconds: float | None = None


class LayersMeasured(Answer, frozen=True, kw_only=True):
    """Of one training step, for each layer that trains: L2 norm of the gradient, and of the update over the weights.

    Layers go by their names in the layer table.
    """

    gradients: dict[str, float]
    updates: dict[str, float]


class ParametersAudited(Answer, frozen=True, kw_only=True):
    """What the steps that were watched show of every parameter and buffer."""

    audit: Audit


class LayerView(Answer, frozen=True, kw_only=True):
    """A look into a layer: `pictures` of `total`, or a histogram of `counts` between `edges` (one more than counts).

    `shape` is that of the tensor looked at. The statistics are those of all its finite values; `zeros` is the share of
    exact zeros, `not_finite` a count.
    """

    shape: tuple[int, ...]
    total: int = 0
    pictures: tuple[Picture, ...] = ()
    edges: tuple[float, ...] = ()
    counts: tuple[int, ...] = ()
    minimum: float = 0.0
    maximum: float = 0.0
    mean: float = 0.0
    zeros: float = 0.0
    not_finite: int = 0
