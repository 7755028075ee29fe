"""What an exported file says of itself: classes, preprocessing, the network, and where it comes from."""

from collections.abc import Iterator
from typing import Literal

import msgspec

from finetui.engine.data import Transform
from finetui.engine.errors import BadInput, reason_of
from finetui.engine.models import Architecture
from finetui.engine.protocol.values import Decoding

Kind = Literal["onnx", "pt2", "safetensors"]
FORMAT = "finetui export 1"
KEY = "about"  # of the description among a file's metadata
INPUT, LOGITS, PROBABILITIES = "pixels", "logits", "probabilities"


class Description(msgspec.Struct, frozen=True, kw_only=True):
    """What stands in an exported file, as JSON.

    `decoding` says how an image file becomes the pixels `[channels, height, width]` that the network takes, uint8 from
    0 to 255 (with `is_float`: float32, used as they are). What follows, `transform`, is part of the network in ONNX and
    pt2 files (`in_graph`), which return logits and probabilities `[batch, classes]`; a safetensors file holds the
    weights of `architecture` alone. The probabilities are those of the logits divided by `temperature`: calibrated
    where that is not 1. `dynamic_batch` says whether any number of images may be given at once, or one only.
    `weights` is the digest of the checkpoint's weights (`finetui.engine.checkpoints.checkpoint.digest`). `seal` is a
    SHA-256 of the whole file, see `finetui.engine.export.seal`; of a pt2 file it stands at its end instead.
    """

    format: str
    kind: Kind
    classes: tuple[str, ...]
    decoding: Decoding
    is_float: bool
    transform: Transform
    in_graph: bool
    architecture: Architecture
    temperature: float
    dynamic_batch: bool
    run: str
    step: int
    weights: str
    finetui: str
    torch: str
    opset: int | None = None
    seal: str = ""

    def __post_init__(self) -> None:
        if self.format != FORMAT:
            raise ValueError(f"the format {self.format!r} is not known to this version")
        if len(self.classes) != self.architecture.num_classes:
            raise ValueError("it does not name as many classes as its network has")

    def steps(self) -> Iterator[str]:
        """Yield what is done to an image, step by step, for people."""
        decoding, transform = self.decoding, self.transform
        colours = {1: "grey", 3: "RGB"}.get(decoding.channels, f"{decoding.channels} channels")
        if self.is_float:
            yield f"floats {decoding.channels}x{decoding.height}x{decoding.width}, as the data gives them"
        else:
            yield f"decoded as {colours}, rotated as its EXIF data says"
            where = f"{decoding.height}x{decoding.width}"
            if decoding.resize:
                yield f"its shorter side scaled to {decoding.resize} pixels ({decoding.interpolation})"
                yield f"center crop of {where}"
            else:
                yield f"scaled to cover {where} ({decoding.interpolation}), then center-cropped"
        inside = " (in the file's graph)" if self.in_graph else ""
        if not self.is_float:
            yield f"divided by 255{inside}"
        if transform.height and (transform.height, transform.width) != (decoding.height, decoding.width):
            yield f"resized to {transform.height}x{transform.width}, bilinear{inside}"
        mean, std = (", ".join(f"{value:.6g}" for value in values) for values in (transform.mean, transform.std))
        yield f"minus the mean {mean}, divided by the standard deviation {std}{inside}"

    def batch_words(self) -> str:
        """Return how many images may be given at once, for people."""
        return "any number of images" if self.dynamic_batch else "1 image"

    def probability_words(self) -> str:
        """Return what the probabilities are, for people."""
        if self.temperature == 1:
            return "softmax of the logits, not calibrated"
        return f"calibrated: softmax of the logits over the temperature {self.temperature:.4f}"


def parsed(text: str, where: str) -> Description:
    """Return the description that the metadata of the file `where` hold as `text`. Raises `BadInput`."""
    if not text:
        raise BadInput(f"{where} does not describe its classes and preprocessing: it was not written by finetui export")
    try:
        return msgspec.json.decode(text, type=Description)
    except (msgspec.DecodeError, UnicodeError) as error:
        raise BadInput(f"{where} cannot be used: its description is damaged ({reason_of(error, 120)})") from error
