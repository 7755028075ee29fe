"""What a network is given: by options, by what its weights say, or by its data; and which of these it is."""

from dataclasses import dataclass
from typing import cast

import msgspec

from finetui.engine.checkpoints.stated_input import StatedInput
from finetui.engine.data import Transform
from finetui.engine.data.choose_decoding import BY_IMAGES, sized
from finetui.engine.data.transform import for_channels
from finetui.engine.errors import BadInput
from finetui.engine.protocol.config import RunConfig
from finetui.engine.protocol.values import Decoding, Interpolation
from finetui.engine.text import clean


@dataclass(frozen=True)
class NetworkInput:
    """What the weights of a network need. `mean` and `std` are empty, `height` and `width` 0 where nothing tells;
    `source` is what tells the former, for people; `decoding` is what is asked of the data.
    """

    mean: tuple[float, ...] = ()
    std: tuple[float, ...] = ()
    height: int = 0
    width: int = 0
    decoding: Decoding = BY_IMAGES
    source: str = ""

    def transform(self, transform: Transform, channels: int) -> Transform:
        """Return `transform` with what is known here in its place."""
        if self.mean:
            mean, std = for_channels(self.mean, channels), for_channels(self.std, channels)
            transform = msgspec.structs.replace(transform, mean=mean, std=std)
        if self.height:
            transform = msgspec.structs.replace(transform, height=self.height, width=self.width)
        return transform

    def notices(self, config: RunConfig, transform: Transform) -> list[str]:
        """Return what a person should know: whose mean and deviation are used with weights that come from a file."""
        mean, std = _numbers(transform.mean), _numbers(transform.std)
        if self.source:
            return [f"images are normalized by {self.source}: mean {mean}, deviation {std}"]
        if config.model.weights in ("none", "default"):
            return []
        return [
            f"the normalization of {clean(config.model.weights)} is unknown: using the data's own mean {mean} and "
            f"deviation {std}; give --mean and --std"
        ]


def network_input(config: RunConfig, stated: StatedInput | None, source: str) -> NetworkInput:
    """Return the input that the weights of a run need: what `config.model` gives, else what they have `stated`.

    `source` is what the weights are called. An image size that the person asks for takes the place of a stated one.
    Raises `BadInput`.
    """
    model = config.model
    asked = config.data.image_size
    if asked and (model.resize or model.crop):
        raise BadInput("data.image_size (--image-size) and model.crop (--crop, --resize) both set the size; give one")
    stated = stated or StatedInput((), ())
    height, width, resize = stated.height, stated.width, stated.resize
    if model.crop:
        height, width, resize = model.crop, model.crop, 0
    if model.resize:
        resize = model.resize
        height, width = (height, width) if height else (resize, resize)
    if resize < max(height, width):
        if model.resize:
            raise BadInput(f"model.resize (--resize): {resize} is less than the {height}x{width} crop")
        resize = 0
    interpolation = cast("Interpolation", model.interpolation) if model.interpolation else stated.interpolation
    decoding = msgspec.structs.replace(
        BY_IMAGES, height=height, width=width, resize=resize, interpolation=interpolation or BY_IMAGES.interpolation
    )
    return NetworkInput(
        mean=model.mean or stated.mean,
        std=model.std or stated.std,
        height=height,
        width=width,
        decoding=sized(asked, decoding),
        source="--mean and --std" if model.mean else source if stated.mean else "",
    )


def _numbers(values: tuple[float, ...]) -> str:
    return ", ".join(f"{value:.4g}" for value in values)
