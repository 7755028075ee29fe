"""Answers about a watched network that take none of its images."""

from torch import nn

from finetui.engine.data.transform import Transform
from finetui.engine.inspection.answers import Answerer, Subject
from finetui.engine.models import Architecture
from finetui.engine.protocol import commands, events
from finetui.engine.watching.saving import device_of

_AS_THEY_COME = Transform(mean=(0.0,), std=(1.0,))


def answer_about_model(
    model: nn.Module, shape: tuple[int, ...], question: commands.DescribeModel | commands.ViewLayer
) -> events.AnyEvent:
    """Return the answer to `question`; `shape` is that of an input, `[C, H, W]`. Raises `BadInput` without one."""
    channels, height, width = shape if len(shape) == 3 else (1, 1, 1)
    architecture = Architecture(name="", num_classes=0, in_channels=channels, height=height, width=width)
    data = None  # of which these questions want nothing
    subject = Subject(model, data, _AS_THEY_COME, architecture, device_of(model))  # type: ignore[arg-type]
    return Answerer(subject).answer(question)
