"""`finetui export`: a checkpoint as a file for others, with a certificate that it says the same."""

import hashlib
import platform
import shlex
from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path

import msgspec
import torch

from finetui.engine.checkpoints import checkpoint
from finetui.engine.data.recorded_data import stable
from finetui.engine.errors import BadInput, reason_of
from finetui.engine.export import certificate as certificates, onnx_file, pt2_file, safetensors_file, seal
from finetui.engine.export.certificate import Certificate, Differing
from finetui.engine.export.comparison import Compared, compare_with
from finetui.engine.export.description import FORMAT, Description, Kind
from finetui.engine.export.network import PixelNetwork
from finetui.engine.export.opened import open_export
from finetui.engine.export.traced import trace
from finetui.engine.files import replacing
from finetui.engine.inspection.opened_checkpoint import OpenedCheckpoint, open_checkpoint
from finetui.engine.protocol.values import Decoding, Part
from finetui.engine.version import __version__

Progress = Callable[[str, int, int], None]
_LIBRARIES: dict[Kind, tuple[str, ...]] = {
    "onnx": ("onnx", "onnxscript", "onnxruntime"),
    "pt2": (),
    "safetensors": ("safetensors",),
}


def export_checkpoint(
    path: Path,
    kind: Kind,
    output: Path,
    *,
    data: str | None = None,
    data_dir: Path | None = None,
    model: str = "lenet",
    part: Part | None = None,
    overwrite: bool = False,
    command: Sequence[str] = (),
    progress: Progress = lambda _phase, _done, _total: None,
) -> Certificate:
    """Write the network of the checkpoint `path` to `output`, run that file over `part` (default: test, else val).

    Beside it are written the certificate, as JSON and as text, and what the file says of each image. `data` and
    `model` are those of `open_checkpoint`; everything is computed on the CPU. Raises `BadInput` where the
    checkpoint, its data or the place cannot be used, or the network has no such form.
    """
    if kind == "onnx":
        onnx_file.check_libraries()
    _check_place(output, kind, overwrite=overwrite)
    opened = open_checkpoint(
        path, data=data, data_dir=data_dir, model=model, device="cpu", part=part, progress=progress
    )
    try:
        progress(f"Writing {kind}", 0, 0)
        content = _file(opened, kind)
        for old in (certificates.json_path(output), certificates.text_path(output)):
            old.unlink(missing_ok=True)  # of the file that is written over
        _write(output, content)
        part = part or opened.subject.data.scored
        runner = open_export(output, model=model)
        compared = compare_with(opened, runner, part, progress)
        opened.predictions(compared.exported, part).save(certificates.predictions_path(output))
        found = _certificate(opened, output, runner.description, compared, part, command)
        _write(certificates.json_path(output), msgspec.json.format(msgspec.json.encode(found), indent=2))
        _write(certificates.text_path(output), found.text().encode())
    except OSError as error:
        raise BadInput(f"{output} cannot be written: {reason_of(error)}") from error
    finally:
        opened.close()
    return found


def _check_place(output: Path, kind: Kind, *, overwrite: bool) -> None:
    if output.suffix.lower() != f".{kind}":
        raise BadInput(f"--output: a file of this kind ends in .{kind}, and {output.name} does not")
    if not output.parent.is_dir():
        raise BadInput(f"there is no folder {output.parent}; create it first")
    if output.exists() and not overwrite:
        raise BadInput(f"{output} exists; name another with --output, or overwrite it with --force")


def _write(path: Path, content: bytes) -> None:
    with replacing(path) as file:
        file.write(content)


def _file(opened: OpenedCheckpoint, kind: Kind) -> bytes:
    """Return the exported file's bytes, sealed."""
    about, subject = opened.about, opened.subject
    weights = subject.model.state_dict()
    images = subject.data
    description = images.description
    # Of floats and the like nothing else is known than their shape.
    decoding = Decoding(channels=images.channels, height=images.height, width=images.width)
    is_float = description is not None and description.is_float
    if description is not None and description.decoding is not None:
        decoding = description.decoding
    said = Description(
        format=FORMAT,
        kind=kind,
        classes=about.classes,
        decoding=decoding,
        is_float=is_float,
        transform=about.transform,
        in_graph=kind != "safetensors",
        architecture=about.architecture,
        temperature=about.temperature,
        dynamic_batch=True,
        run=about.run,
        step=opened.step,
        weights=checkpoint.digest(weights),
        finetui=__version__,
        torch=str(torch.__version__),
        opset=onnx_file.OPSET if kind == "onnx" else None,
        seal="" if kind == "pt2" else seal.BLANK,
    )
    if kind == "safetensors":
        return seal.sealed(safetensors_file.write(weights, said))
    network = PixelNetwork(subject.model, about.transform, about.temperature, is_float=is_float).eval()
    program, dynamic = trace(network, decoding.shape, about.architecture.name)
    said = msgspec.structs.replace(said, dynamic_batch=dynamic)
    if kind == "onnx":
        return seal.sealed(onnx_file.write(program, said, dynamic))
    return seal.sealed_archive(pt2_file.write(program, said))


def _certificate(
    opened: OpenedCheckpoint,
    output: Path,
    description: Description,
    compared: Compared,
    part: Part,
    command: Sequence[str],
) -> Certificate:
    place = int(compared.probability_difference.argmax())
    images = opened.subject.data
    return Certificate(
        format=certificates.FORMAT,
        file=stable(output.name),
        sha256=_sha256(output),
        checkpoint=stable(str(opened.path)),
        checkpoint_sha256=_sha256(opened.path),
        data=images.name,
        part=part,
        n=compared.exported.n,
        checkpoint_accuracy=compared.checkpoint.accuracy,
        exported_accuracy=compared.exported.accuracy,
        differing=tuple(_differing(opened, compared, part)),
        largest_logit_difference=float(compared.logit_difference.max()),
        largest_probability_difference=float(compared.probability_difference[place]),
        largest_difference_index=int(compared.exported.columns["index"][place]),
        predictions=stable(certificates.predictions_path(output).name),
        description=description,
        steps=tuple(description.steps()),
        versions=_versions(description.kind),
        date=datetime.now(UTC).isoformat(timespec="seconds"),
        command=stable(shlex.join(command)),
    )


def _differing(opened: OpenedCheckpoint, compared: Compared, part: Part) -> list[Differing]:
    split, classes = opened.subject.data.part(part), opened.subject.data.classes
    before, after = compared.checkpoint.columns, compared.exported.columns
    return [
        Differing(
            index=int(after["index"][row]),
            path=stable(split.file(int(after["index"][row]))),
            true=classes[after["label"][row]],
            checkpoint=classes[before["predicted"][row]],
            exported=classes[after["predicted"][row]],
            difference=float(compared.probability_difference[row]),
        )
        for row in compared.differs.nonzero()[0]
    ]


def _versions(kind: Kind) -> dict[str, str]:
    found = {"finetui": __version__, "python": platform.python_version(), "torch": str(torch.__version__)}
    return found | {name: version(name) for name in ("numpy", "pillow", *_LIBRARIES[kind])}


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
