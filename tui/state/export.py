"""Writing predictions and their images to files: CSV, JSON, a contact sheet, a folder."""

import csv
import io
import json
import re
import shutil
import tempfile
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import msgspec
import numpy as np
import numpy.typing as npt

from finetui.engine.errors import BadInput, FinetuiError, reason_of
from finetui.engine.files import replacing
from finetui.engine.text import clean
from finetui.tui.state.listing import Listing

Image = npt.NDArray[np.uint8]
Fetch = Callable[[Sequence[int]], list[Image | str]]

COLUMNS = (
    "index", "path", "true", "predicted", "true_name", "predicted_name", "confidence", "loss", "margin",
    "label_likely_wrong", "training_image", "training_path", "top",
)  # fmt: skip
SHEET_MOST = 1000  # images on one contact sheet
_FETCHED = 64
_THUMBNAIL = 84  # pixels, at least and about
_CAPTION = 30


@dataclass(frozen=True)
class Target:
    """What is written where; `kind` is csv, json, sheet or folder."""

    path: Path
    kind: str

    @property
    def needs_images(self) -> bool:
        """Whether images are written."""
        return self.kind in ("sheet", "folder")


def target_of(text: str, *, overwrite: bool = False) -> Target:
    """Return what the path `text` asks for, by its ending. Raises `BadInput` when it cannot be written there."""
    if not text.strip():
        raise BadInput("enter a file that ends in .csv, .json or .png, or a folder")
    path = Path(text).expanduser()
    kind = {".csv": "csv", ".json": "json", ".png": "sheet", "": "folder"}.get(path.suffix.lower())
    where = clean(str(path))
    if kind is None:
        raise BadInput(f"{where}: use .csv, .json, .png (a contact sheet) or a folder")
    if kind != "folder" and path.is_dir():
        raise BadInput(f"{where} is a folder; enter a file")
    if kind == "folder" and path.exists() and not path.is_dir():
        raise BadInput(f"{where} is a file; enter a folder")
    check_free(path, overwrite=overwrite)
    return Target(path, kind)


def check_free(path: Path, *, overwrite: bool) -> None:
    """Raise `BadInput` where `path` exists and is not to be overwritten, or has no folder to be in."""
    if path.exists() and not overwrite:
        raise BadInput(f"{clean(str(path))} exists; choose another name, or overwrite it")
    if not path.parent.is_dir():
        raise BadInput(f"there is no folder {clean(str(path.parent))}; create it first")


def objects(listing: Listing, rows: Sequence[int]) -> Iterator[dict[str, object]]:
    """Yield what is known of each of `rows`, by the names in `COLUMNS`.

    Class names and paths are as they are, not cleaned for a terminal; bytes of a path that are no text are escaped as
    Python does (`surrogateescape`).
    """
    found = listing.predictions
    classes, flagged = found.classes, listing.label_errors
    for row in rows:
        true, predicted = int(found.label[row]), int(found.predicted[row])
        yield {
            "index": int(found.index[row]),
            "path": found.files.path(row),
            "true": true,
            "predicted": predicted,
            "true_name": classes[true],
            "predicted_name": classes[predicted],
            "confidence": _short(found.confidence[row]),
            "loss": _short(found.loss[row]),
            "margin": _short(found.margin[row]),
            "label_likely_wrong": None if flagged is None else bool(flagged[row]),
            "training_image": (listing.duplicates or {}).get(row),
            "training_path": listing.training_files.get(row) or None,
            "top": [{"class": classes[label], "probability": _short(p)} for label, p in found.top(row)],
        }


def _short(value: float) -> float:
    return float(f"{value:.6g}")


def to_json(listing: Listing, rows: Sequence[int]) -> str:
    """Return `objects` as a JSON list; pure ASCII, so that any path can be written.

    Of a comparison the list is the value of `images` in an object that has McNemar's test as well.
    """
    images = list(objects(listing, rows))
    tested = listing.mcnemar()
    if tested is None:
        return json.dumps(images, indent=1)
    compared = {"compared_with": listing.compared, "mcnemar": msgspec.to_builtins(tested), "images": images}
    return json.dumps(compared, indent=1)


def to_csv(listing: Listing, rows: Sequence[int]) -> str:
    """Return `objects` as CSV (RFC 4180), with the likeliest classes as "name probability; ..." in one field."""
    text = io.StringIO(newline="")
    writer = csv.DictWriter(text, COLUMNS, lineterminator="\r\n")
    writer.writeheader()
    for found in objects(listing, rows):
        top = found["top"]
        assert isinstance(top, list)
        found["top"] = "; ".join(f"{item['class']} {item['probability']:.6g}" for item in top)
        writer.writerow(found)
    return text.getvalue()


def export(target: Target, listing: Listing, rows: Sequence[int], fetch: Fetch) -> str:
    """Write `rows` to `target`, whole or not at all, and return a sentence that says what was written.

    `fetch(indices)` returns images, uint8 `[H, W, 1 or 3]`, or what is wrong with them. Raises `BadInput` when there
    are too many for a contact sheet, `FinetuiError` when writing fails.
    """
    where = clean(str(target.path))
    if not len(rows):
        raise BadInput("nothing to export: no image is listed")
    try:
        if target.kind == "folder":
            return _export_folder(target.path, listing, rows, fetch)
        if target.kind == "sheet":
            content = _sheet(listing, rows, fetch)
        else:
            text = to_json(listing, rows) if target.kind == "json" else to_csv(listing, rows)
            content = text.encode("utf-8", "surrogateescape")
        with replacing(target.path, synced=False) as file:
            file.write(content)
    except OSError as error:
        raise FinetuiError(f"{where} could not be written: {reason_of(error)}") from error
    return f"{len(rows):,} {'images' if target.needs_images else 'predictions'} written to {where}"


def _images(listing: Listing, rows: Sequence[int], fetch: Fetch) -> Iterator[tuple[int, Image | str]]:
    """Yield each row with its image, fetched by pages."""
    for start in range(0, len(rows), _FETCHED):
        page = [int(row) for row in rows[start : start + _FETCHED]]
        yield from zip(page, fetch([int(listing.predictions.index[row]) for row in page]), strict=True)


def _export_folder(path: Path, listing: Listing, rows: Sequence[int], fetch: Fetch) -> str:
    from PIL import Image as Pillow

    found = listing.predictions
    digits = len(str(len(rows)))
    missing = 0
    # Beside its place, so that it becomes visible at once.
    scratch = Path(tempfile.mkdtemp(prefix=f".{path.name}.", dir=path.parent))
    try:
        for rank, (row, image) in enumerate(_images(listing, rows, fetch), 1):
            if isinstance(image, str):
                missing += 1
                continue
            true, predicted = (_for_file(found.classes[label[row]]) for label in (found.label, found.predicted))
            name = f"{rank:0{digits}d}_{found.index[row]}_{true}_as_{predicted}.png"
            Pillow.fromarray(image.squeeze(2) if image.shape[2] == 1 else image).save(scratch / name)
        (scratch / "predictions.csv").write_bytes(to_csv(listing, rows).encode("utf-8", "surrogateescape"))
        scratch.chmod(0o755)
        if path.exists():
            for file in scratch.iterdir():
                file.replace(path / file.name)
        else:
            scratch.rename(path)
    finally:
        shutil.rmtree(scratch, ignore_errors=True)
    left_out = f"; {missing:,} could not be loaded" if missing else ""
    return f"{len(rows) - missing:,} images and predictions.csv written to {clean(str(path))}{left_out}"


def _for_file(name: str) -> str:
    return re.sub(r"[^\w.+-]+", "-", clean(name, 60)).strip(".-")[:40] or "class"


def _sheet(listing: Listing, rows: Sequence[int], fetch: Fetch) -> bytes:
    """Return a PNG with all images side by side, true and predicted class below each."""
    from PIL import Image as Pillow, ImageDraw, ImageFont

    if len(rows) > SHEET_MOST:
        raise BadInput(
            f"a contact sheet holds at most {SHEET_MOST:,} images, and {len(rows):,} are listed; "
            "filter them, or export to a folder"
        )
    found = listing.predictions
    columns = max(1, round((1.4 * len(rows)) ** 0.5))
    cell_wide, cell_high = _THUMBNAIL + 12, _THUMBNAIL + _CAPTION + 8
    sheet = Pillow.new("RGB", (columns * cell_wide, -(-len(rows) // columns) * cell_high), "white")
    draw, font = ImageDraw.Draw(sheet), ImageFont.load_default(size=11)
    for place, (row, image) in enumerate(_images(listing, rows, fetch)):
        left, top = place % columns * cell_wide + 6, place // columns * cell_high + 4
        if isinstance(image, str):
            draw.text((left, top), "no image", "gray", font)
        else:
            picture = Pillow.fromarray(image.squeeze(2) if image.shape[2] == 1 else image)
            factor = _THUMBNAIL // max(picture.size)
            if factor >= 1:
                picture = picture.resize((picture.width * factor, picture.height * factor), Pillow.Resampling.NEAREST)
            else:
                picture.thumbnail((_THUMBNAIL, _THUMBNAIL), Pillow.Resampling.BOX)
            sheet.paste(picture, (left + (_THUMBNAIL - picture.width) // 2, top + (_THUMBNAIL - picture.height) // 2))
        true, predicted = (found.classes[label[row]][:14] for label in (found.label, found.predicted))
        words = true if true == predicted else f"{true} > {predicted}"
        draw.text((left, top + _THUMBNAIL + 2), words, "black", font)
        draw.text((left, top + _THUMBNAIL + 15), f"{found.confidence[row]:.0%}  #{found.index[row]}", "gray", font)
    content = io.BytesIO()
    sheet.save(content, "PNG")
    return content.getvalue()
