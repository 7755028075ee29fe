"""`finetui card`: a run as a report to hand on, one HTML file and the same in Markdown."""

import os
from pathlib import Path
from typing import Annotated

from cyclopts import Parameter

from finetui.engine.errors import BadInput, reason_of
from finetui.engine.files import replacing
from finetui.engine.protocol.values import Part
from finetui.engine.runs.folder import find_run_at
from finetui.engine.text import clean
from finetui.tui.cli.options import DataDir, Device, OwnModel, RunAt, RunsDir, WholeNumber

_PART = "Which images: train, val or test (default: those of the best evaluation during training)."


def card(
    run: RunAt,
    /,
    *,
    output: Annotated[Path | None, Parameter(help="The HTML file (default: card.html in the run's folder).")] = None,
    mistakes: WholeNumber = 24,
    part: Annotated[Part | None, Parameter(help=_PART)] = None,
    force: bool = False,
    data: str | None = None,
    data_dir: DataDir = None,
    model: OwnModel = None,
    device: Device = "auto",
    runs_dir: RunsDir = Path("checkpoints"),
) -> int:
    """Write a report on a run: settings, curves, scores, classes, mistakes and provenance.

    The report is one self-contained HTML file, with a Markdown version without pictures beside it.

    Parameters
    ----------
    mistakes
        How many mistakes to show, highest loss first (default: 24).
    force
        Overwrite existing files.
    data
        Data set to score on (default: the one it was trained on).
    """
    from finetui.tui.cli.card_facts import gather
    from finetui.tui.cli.card_html import as_html
    from finetui.tui.cli.card_markdown import as_markdown
    from finetui.tui.cli.errors_report import Place

    if mistakes < 0:
        raise BadInput(f"--mistakes: give a number of images, or 0 for none, not {mistakes}")
    folder, _ = find_run_at(run, runs_dir)
    page = output or folder.path / "card.html"
    if page.suffix.lower() != ".html":
        raise BadInput(f"--output: the report ends in .html, and {page.name} does not")
    targets = (page, page.with_suffix(".md"))
    for path in targets:
        if path.exists() and not force:
            raise BadInput(f"{path} exists; name another with --output, or overwrite it with --force")
    if not page.parent.is_dir():
        raise BadInput(f"there is no folder {page.parent}; create it first")
    found = gather(folder, Place(run, runs_dir, data, data_dir, model or "lenet", device, part=part), mistakes)
    try:
        for path, text in zip(targets, (as_html(found), as_markdown(found)), strict=True):
            with replacing(path) as file:
                file.write(text.encode())
    except OSError as error:
        raise BadInput(f"{page} cannot be written: {reason_of(error)}") from error
    print("\n".join(clean(os.fspath(path), 1000) for path in targets))
    return 0
