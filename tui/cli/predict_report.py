"""`finetui predict`: a person's own image files, and what a network takes them for."""

import sys
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from rich.console import Console
from rich.segment import Segments
from textual.content import Content

import finetui
from finetui.engine.errors import BadInput
from finetui.engine.protocol.requests import BareWeights
from finetui.engine.text import clean
from finetui.tui.cli.reports import print_json
from finetui.tui.graphics import choose_mode, strips

_BAR = 30  # cells
_LABEL = 24


def print_predictions(
    checkpoint: Path,
    files: Sequence[Path],
    *,
    top: int,
    model: str,
    device: str,
    invert: bool,
    images: str,
    as_json: bool,
    bare: BareWeights,
) -> int:
    """Print the likeliest classes of `files`; return the exit status: 2 when one of them could not be read."""
    if top < 1:
        raise BadInput(f"--top: at least 1 class is shown, not {top}")
    if not files:
        raise BadInput("name the image files to classify")
    mode = choose_mode(images) if sys.stdout.isatty() and images != "none" and not as_json else None
    console = Console(markup=False, highlight=False)
    objects: list[dict[str, object]] = []
    failed = pale = 0
    for found in finetui.classify(checkpoint, files, top=top, model=model, device=device, invert=invert, bare=bare):
        shown = clean(str(found.path), 1000)
        if found.problem:
            failed += 1
            print(f"finetui: {shown}: {found.problem}", file=sys.stderr)
        pale += found.pale
        likeliest = [{"class": name, "probability": float(f"{value:.6g}")} for name, value in found.top]
        objects.append({"path": str(found.path), "top": likeliest, "problem": found.problem})
        if as_json or found.problem:
            continue
        print(shown)
        if mode is not None and found.pixels is not None:
            pixels = np.ascontiguousarray(found.pixels.transpose(1, 2, 0))
            for strip in strips(pixels, 28, 14, ascii=mode == "ascii"):
                console.print(Segments(list(strip)))
        for name, value in found.top:
            full = round(value * _BAR)
            label = Content(name).truncate(_LABEL, ellipsis=True, pad=True).plain
            print(f"  {label} {'━' * full}{'─' * (_BAR - full)} {value:>6.1%}")
    if as_json:
        print_json(objects)
    if pale and not invert:
        print(
            f"finetui: {pale} of the images are dark on a pale ground; if the network learned from light things on "
            "black (as MNIST's digits are), use --invert",
            file=sys.stderr,
        )
    return 2 if failed else 0
