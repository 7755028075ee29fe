"""Answers to a dashboard's questions about a network and its images; nothing that trains is changed by them."""

from collections.abc import Callable
from dataclasses import asdict, dataclass

import numpy as np
import torch
from torch import Tensor, nn

from finetui.engine.data import ImageData, InputTransform, Split, Transform, Unreadable, find_duplicates
from finetui.engine.errors import BadInput
from finetui.engine.inspection.explain import explain
from finetui.engine.inspection.layer_views import (
    Histogram,
    ImagePage,
    activation_histogram,
    feature_maps,
    weight_filters,
    weight_histogram,
)
from finetui.engine.models import Architecture
from finetui.engine.models.device import preserved_rng
from finetui.engine.models.isolated import isolated
from finetui.engine.models.outputs import logits
from finetui.engine.models.summary import ModelSummary, ModuleSummary, summarise
from finetui.engine.predictions.images import for_people, picture, reduce
from finetui.engine.protocol import commands, events
from finetui.engine.protocol.values import AnyPart, Part
from finetui.engine.text import clean

MOST_IMAGES = 256  # in one answer
_LARGEST_MAP = 64  # pixels; a terminal shows no more of a filter or a feature map


@dataclass(frozen=True)
class Subject:
    """What is asked about: a network on `device`, the data it is used with, and how its inputs are made.

    Its logits are divided by `temperature` where they are told as probabilities.
    """

    model: nn.Module
    data: ImageData
    transform: Transform
    architecture: Architecture
    device: torch.device
    temperature: float = 1.0


class Answerer:
    """Answers questions about `subject`; `progress(name, done, total)` is told of long work, `stopped` ends it."""

    def __init__(
        self,
        subject: Subject,
        progress: Callable[[str, int, int], None] = lambda _name, _done, _total: None,
        stopped: Callable[[], bool] = lambda: False,
    ) -> None:
        self._subject = subject
        self._progress = progress
        self._stopped = stopped
        self._transform_input = InputTransform(subject.transform, subject.device)
        self._duplicates: dict[Part, tuple[tuple[int, int], ...]] = {}
        self._summary: ModelSummary | None = None

    def answer(self, question: commands.AnyQuestion) -> events.AnyEvent:
        """Return the answer to `question`. Raises `BadInput` for one that has none."""
        # A person's own dataset may draw random numbers whenever it is asked for an image.
        with preserved_rng(self._subject.device):
            match question:
                case commands.FetchImages():
                    return self._images(question)
                case commands.FindDuplicates():
                    return self._find_duplicates(question)
                case commands.ExplainImage():
                    return self._explain(question)
                case commands.DescribeModel():
                    return self._describe(question)
                case commands.ViewLayer():
                    return self._view(question)
                case _:
                    raise BadInput(f"nothing here can answer a {type(question).__name__}")

    def _images(self, question: commands.FetchImages) -> events.Images:
        if len(question.indices) > MOST_IMAGES:
            raise BadInput(f"at most {MOST_IMAGES} images can be asked for at a time, not {len(question.indices)}")
        pictures = tuple(self._picture(index, question.part, max(question.side, 0)) for index in question.indices)
        return events.Images(command=question, pictures=pictures)

    def _picture(self, index: int, part: AnyPart, side: int) -> events.Picture:
        try:
            stored = self._stored(index, part)
        except (BadInput, Unreadable) as problem:
            return events.Picture(index=index, problem=str(problem))
        name = clean(self._split(part).file(index), 4096)
        return picture(reduce(for_people(stored.numpy()), side), index, name)

    def _split(self, part: AnyPart) -> Split:
        data = self._subject.data
        return data.part(part or data.watched)

    def _stored(self, index: int, part: AnyPart) -> Tensor:
        split = self._split(part)
        if not 0 <= index < len(split):
            raise BadInput(f"there is no {part or self._subject.data.watched} image {index}; there are {len(split):,}")
        return split.item(index)

    def _input(self, index: int, part: AnyPart = "") -> Tensor:
        """Return image `index` of `part` as the network is given it, float32 `[1, C, H, W]` on the device."""
        try:
            stored = self._stored(index, part)
        except Unreadable as problem:
            what = f"{part or self._subject.data.watched} image {index}"
            raise BadInput(f"{what} cannot be read: {problem}") from problem
        # A copy: the transform works in place on what is a float already.
        return self._transform_input(stored[None].clone().to(self._subject.device), None)

    def _explain(self, question: commands.ExplainImage) -> events.Explained:
        inputs = self._input(question.index, question.part)
        with isolated(self._subject.model, self._subject.device) as network, torch.inference_mode():
            probabilities = (logits(network, inputs)[0].float() / self._subject.temperature).softmax(0)
        target = int(probabilities.argmax()) if question.target is None else question.target
        baseline = self._transform_input(
            torch.zeros_like(self._stored(question.index, question.part))[None].to(self._subject.device), None
        )
        found = explain(self._subject.model, inputs, method=question.method, target=target, baseline=baseline)
        height, width = found.values.shape
        return events.Explained(
            command=question,
            target=target,
            height=height,
            width=width,
            values=np.ascontiguousarray(found.values, dtype="<f4").tobytes(),
            probability=float(probabilities[target]),
            layer=clean(found.layer),
        )

    def _describe(self, question: commands.DescribeModel) -> events.ModelDescribed:
        if self._summary is None:
            shape = self._subject.architecture
            size = (shape.in_channels, shape.height, shape.width)
            self._summary = summarise(self._subject.model, size, self._subject.device)
        rows = tuple(_module_row(self._subject.model, module) for module in self._summary.modules)
        return events.ModelDescribed(
            command=question, input=self._summary.input, modules=rows, seconds=self._summary.seconds
        )

    def _view(self, question: commands.ViewLayer) -> events.LayerView:
        model, layer = self._subject.model, question.layer
        match question.view:
            case "filters":
                return self._page(question, weight_filters(model, layer, question.first, self._count(question)))
            case "feature-maps":
                inputs = self._input(question.index, question.part)
                return self._page(question, feature_maps(model, layer, inputs, question.first, self._count(question)))
            case "weights":
                return self._histogram(question, weight_histogram(model, layer))
            case "activations":
                return self._histogram(
                    question, activation_histogram(model, layer, self._input(question.index, question.part))
                )
        raise BadInput(f"there is no view {question.view!r} of a layer; known: {', '.join(commands.LAYER_VIEWS)}")

    @staticmethod
    def _count(question: commands.ViewLayer) -> int:
        return max(1, min(question.count, MOST_IMAGES))

    @staticmethod
    def _page(question: commands.ViewLayer, page: ImagePage) -> events.LayerView:
        pictures = []
        for place, image in enumerate(page.images):
            found = image.pixels if image.pixels.ndim == 3 else image.pixels[:, :, None]
            pictures.append(picture(reduce(found, _LARGEST_MAP), page.first + place, image.name))
        return events.LayerView(
            command=question, shape=page.shape, total=page.total, pictures=tuple(pictures), **asdict(page.statistics)
        )

    @staticmethod
    def _histogram(question: commands.ViewLayer, found: Histogram) -> events.LayerView:
        return events.LayerView(
            command=question,
            shape=found.shape,
            edges=tuple(found.edges.tolist()),
            counts=tuple(found.counts.tolist()),
            **asdict(found.statistics),
        )

    def _find_duplicates(self, question: commands.FindDuplicates) -> events.DuplicatesFound:
        data = self._subject.data
        part = question.part or data.watched
        if part == "train":
            raise BadInput("these are the training images themselves")
        if part not in self._duplicates:
            pairs = find_duplicates(
                data.train,
                data.part(part),
                progress=lambda done, total: self._progress("Looking for duplicates", done, total),
                stopped=self._stopped,
            )
            self._duplicates[part] = tuple(pairs)
        found, train = self._duplicates[part], self._subject.data.train
        names = tuple(clean(train.file(ours), 4096) for _, ours in found)
        return events.DuplicatesFound(command=question, pairs=found, names=names if any(names) else ())


def _module_row(model: nn.Module, module: ModuleSummary) -> events.ModuleRow:
    own = list(model.get_submodule(module.name).parameters(recurse=False))
    views = []
    if any(parameter.ndim > 1 for parameter in own):
        views.append("filters")
    if module.output is not None:
        views.append("feature-maps")
    if own:
        views.append("weights")
    if module.output is not None:
        views.append("activations")
    return events.ModuleRow(
        name=clean(module.name, 1000),
        depth=module.depth,
        kind=clean(module.kind),
        summary=clean(module.summary),
        output=module.output or (),
        parameters=module.parameters,
        own=module.own,
        trainable=module.trainable,
        flops=module.flops,
        time=module.time,
        activation_bytes=module.activation_bytes,
        views=tuple(views),
    )
