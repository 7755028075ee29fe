"""The certificate that lies beside an exported file: what it is, and how it fared on the images of its run."""

import hashlib
from collections.abc import Iterator
from pathlib import Path

import msgspec

from finetui.engine.errors import BadInput, reason_of
from finetui.engine.export.description import Description
from finetui.engine.predictions.interval import accuracy_words
from finetui.engine.protocol.values import Part
from finetui.engine.text import clean

FORMAT = "finetui certificate 1"
_MOST_LISTED = 20  # in the text; the JSON has all


class Differing(msgspec.Struct, frozen=True, kw_only=True):
    """An image that the file takes for another class than the checkpoint does.

    It is number `index` of its part; `path` is empty where it has no file. `difference` is the largest of its
    probabilities'.
    """

    index: int
    path: str
    true: str
    checkpoint: str
    exported: str
    difference: float


class Certificate(msgspec.Struct, frozen=True, kw_only=True):
    """What `finetui export` found: `file` beside `checkpoint` on the `n` images of `part` of `data`.

    Accuracies run from 0 to 1, `largest_*_difference` are the largest of any image and class, with the index of the
    image where the probabilities differ most. `predictions` is the file with what the exported network says of
    each image. `date` is ISO 8601, UTC; `steps` says in words what is done to an image.
    """

    format: str
    file: str
    sha256: str
    checkpoint: str
    checkpoint_sha256: str
    data: str
    part: Part
    n: int
    checkpoint_accuracy: float
    exported_accuracy: float
    differing: tuple[Differing, ...]
    largest_logit_difference: float
    largest_probability_difference: float
    largest_difference_index: int
    predictions: str
    description: Description
    steps: tuple[str, ...]
    versions: dict[str, str]
    date: str
    command: str

    @property
    def clean(self) -> bool:
        """Whether the file takes every image for the class that the checkpoint takes it for."""
        return not self.differing

    def verdict(self) -> str:
        """Return the result in a sentence."""
        if self.clean:
            return f"the same class as the checkpoint on all {self.n:,} {self.part} images"
        return f"ANOTHER CLASS than the checkpoint on {len(self.differing):,} of {self.n:,} {self.part} images"

    def text(self) -> str:
        """Return the certificate as short text."""
        return "\n".join(self._lines()) + "\n"

    def _lines(self) -> Iterator[str]:
        about = self.description
        opset = f", opset {about.opset}" if about.opset is not None else ""
        for name, words in (
            ("file", f"{self.file} ({about.kind}{opset})"),
            ("sha256", self.sha256),
            ("checkpoint", self.checkpoint),
            ("sha256", self.checkpoint_sha256),
            ("verdict", self.verdict()),
            ("accuracy", f"{accuracy_words(self.exported_accuracy, self.n)}, on {self.part} of {self.data}"),
            ("checkpoint's", accuracy_words(self.checkpoint_accuracy, self.n)),
            ("differences", self._differences()),
            ("network", f"{about.architecture.name}, {len(about.classes)} classes"),
            ("input", f"{self._input()}, {about.batch_words()} at once"),
            *(("" if number else "preprocessing", step) for number, step in enumerate(self.steps)),
            ("probabilities", about.probability_words()),
            ("predictions", self.predictions),
            ("versions", ", ".join(f"{library} {version}" for library, version in self.versions.items())),
            ("date", self.date),
            ("command", self.command),
        ):
            yield f"{name:<15}{clean(words, 1000)}"
        for found in self.differing[:_MOST_LISTED]:
            name = found.path or f"{self.part} image {found.index:,}"
            yield clean(f"  {name}: {found.exported}, where the checkpoint says {found.checkpoint}", 1000)
        if len(self.differing) > _MOST_LISTED:
            yield f"  and {len(self.differing) - _MOST_LISTED:,} more, in {json_path(Path(self.file)).name}"

    def _differences(self) -> str:
        probability, logit = self.largest_probability_difference, self.largest_logit_difference
        if not probability and not logit:
            return "none: all probabilities and logits are the same"
        which = f" (image {self.largest_difference_index:,})" if probability else ""
        return f"at most {probability:.2g} in a probability{which}, {logit:.2g} in a logit"

    def _input(self) -> str:
        about = self.description
        shape = f"[batch, {about.decoding.channels}, {about.decoding.height}, {about.decoding.width}]"
        return f"pixels {shape} of {'float32' if about.is_float else 'uint8'}"


def json_path(file: Path) -> Path:
    """Return where the certificate of the exported `file` lies, as JSON."""
    return file.with_name(f"{file.name}.certificate.json")


def text_path(file: Path) -> Path:
    """Return where the certificate of the exported `file` lies, as text."""
    return file.with_name(f"{file.name}.certificate.txt")


def predictions_path(file: Path) -> Path:
    """Return where what the exported `file` says of each image lies."""
    return file.with_name(f"{file.name}.predictions")


def check(file: Path, data: bytes) -> None:
    """Raise `BadInput` where a certificate beside `file`, whose bytes are `data`, is about other bytes."""
    path = json_path(file)
    if not path.is_file():
        return
    try:
        found = msgspec.json.decode(path.read_bytes(), type=dict)
    except (OSError, msgspec.DecodeError) as error:
        raise BadInput(f"the certificate {path} cannot be read: {reason_of(error, 120)}; export again") from error
    if found.get("sha256") != hashlib.sha256(data).hexdigest():
        raise BadInput(
            f"{file} cannot be used: it is not the file that {path.name} beside it describes; export it again"
        )
