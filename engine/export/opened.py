"""Opening an exported file: only as it was written, and without running what it does not need."""

from pathlib import Path

from finetui.engine.checkpoints.state_dict import is_safetensors
from finetui.engine.errors import BadInput, reason_of
from finetui.engine.export import certificate, onnx_file, pt2_file, safetensors_file
from finetui.engine.export.description import Kind
from finetui.engine.export.runner import Runner
from finetui.engine.export.seal import is_sealed, is_whole, is_whole_archive

_KINDS: dict[str, Kind] = {".onnx": "onnx", ".pt2": "pt2", ".safetensors": "safetensors"}
_CHANGED = "its classes, preprocessing or weights are not those that were exported; export it again"


def kind_of(path: Path) -> Kind | None:
    """Return what kind of export the file `path` is; None where it is none, as a checkpoint or bare weights are."""
    kind = _KINDS.get(path.suffix.lower())
    if kind != "safetensors":
        return kind
    try:
        with path.open("rb") as file:
            head = file.read(16)
            header = file.read(int.from_bytes(head[:8], "little")) if is_safetensors(head) else b""
    except OSError:
        return None  # whoever reads it says why
    return kind if safetensors_file.description_text(head + header) else None


def open_export(path: Path, *, model: str = "lenet") -> Runner:
    """Return the network in the exported file `path`, and what it says of itself.

    `model` must name the network where the file holds weights alone, of a person's own code. A file that was changed
    since it was written, or is not the one that the certificate beside it is about, is refused. Raises `BadInput`.
    """
    where = str(path)
    try:
        data = path.read_bytes()
    except OSError as error:
        raise BadInput(f"{where} cannot be read: {reason_of(error)}") from error
    kind = kind_of(path)
    if kind == "pt2":
        whole = is_whole_archive(data)
    else:
        if not is_sealed(data):
            raise BadInput(
                f"{where} does not describe its classes and preprocessing: it was not written by finetui export"
            )
        whole = is_whole(data)
    if not whole:
        raise BadInput(f"{where} has changed since it was exported, and cannot be used: {_CHANGED}")
    certificate.check(path, data)
    if kind == "onnx":
        return onnx_file.open_file(data, where)
    if kind == "pt2":
        return pt2_file.open_file(data, where)
    return safetensors_file.open_file(data, where, model)
