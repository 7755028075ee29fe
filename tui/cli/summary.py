"""`finetui summary`: a network's module tree as a table of 80 columns, or as JSON."""

import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, NamedTuple

import msgspec
from cyclopts import Parameter
from rich.cells import cell_len, set_cell_size

import finetui
from finetui.engine.errors import BadInput
from finetui.engine.runs.folder import RunFolder, find_checkpoint, how_it_began
from finetui.engine.runs.summaries import RunSummary, summarise_run
from finetui.engine.text import clean
from finetui.tui.cli.complete import checkpoints
from finetui.tui.cli.options import DataDir, RunsDir, WholeNumber
from finetui.tui.cli.reports import WIDTH, output_width, print_json
from finetui.tui.state.numbers import scaled, short
from finetui.tui.state.provenance_words import facts

if TYPE_CHECKING:
    from finetui.engine.inspection.model_summary import Architecture, ModelSummary, ModuleSummary

_GAP = 2
_NARROWEST = 12  # of the names
_DEEPEST = 10  # levels that are indented


class Step(NamedTuple):
    """What the memory is told for: images a step, in so many `parts` one after the other, and the optimizer.

    `states` is how many numbers that keeps of each parameter.
    """

    images: int = 64
    parts: int = 1
    optimizer: str = "SGD with momentum"
    states: int = 1


@Parameter(name="*")
@dataclass(frozen=True, kw_only=True)
class SummaryOptions:
    """The network and its input, and what is told of it."""

    model: str | None = None
    (
        "lenet (default), any torchvision classification model (resnet18, ...), or module:factory, file.py:factory "
        "(runs that code)."
    )
    data: str | None = None
    (
        "Data set or folder that gives the images' shape and the classes (default: 1x28x28 and 10 for lenet, "
        "3x224x224 and 1000 for others). A set that is not on this machine is downloaded."
    )
    data_dir: DataDir = None
    image_size: WholeNumber | None = None
    "Side of the images in pixels."
    classes: WholeNumber | None = None
    "Number of classes."
    batch_size: WholeNumber | None = None
    "Images per training step, for the memory (default: those of the run, else 64)."
    time: bool = False
    "Also run it and show the share of the time that each module takes."
    device: str = "auto"
    "Where --time runs it: auto, cpu, cuda, cuda:N or mps (default: auto)."
    runs_dir: RunsDir = Path("checkpoints")
    json: bool = False
    "Print one JSON object: sizes in bytes, times in seconds or as shares of the whole."


def summary(
    run: Annotated[str | None, Parameter(completer=checkpoints)] = None, /, *, options: SummaryOptions | None = None
) -> int:
    """Print a network's module tree: shapes, parameters, FLOPs, and the memory that training takes.

    For a run, also its provenance: command line, commit, packages, device, data.

    Parameters
    ----------
    run
        A run (its name or folder: its best checkpoint is used), RUN:CHECKPOINT, or a checkpoint file, instead of a
        model and data.
    """
    given = options or SummaryOptions()
    path = None if run is None else find_checkpoint(run, given.runs_dir)
    if given.batch_size is not None and given.batch_size < 1:
        raise BadInput(f"--batch-size must be at least 1, not {given.batch_size}")
    told = None if path is None else _told(RunFolder(path.parent))
    provenance = None if told is None else told.provenance
    step = Step() if path is None or told is None else _step(RunFolder(path.parent), told)
    if given.batch_size is not None:
        step = step._replace(images=given.batch_size, parts=min(step.parts, given.batch_size))
    architecture, found = finetui.summarise_model(
        given.model,
        data=given.data,
        data_dir=given.data_dir,
        image_size=given.image_size,
        classes=given.classes,
        path=path,
        timed=given.time,
        device=given.device,
    )
    if given.json:
        said = {} if provenance is None else {"provenance": msgspec.to_builtins(provenance)}
        print_json(as_object(architecture, found, step) | said)
        return 0
    lines = [*tree_lines(found, max(WIDTH, output_width())), "", *total_lines(found, step)]
    if provenance is not None:
        lines += ["", *(f"{label.lower():<11}  {value}" for label, value in facts(provenance))]
    print("\n".join(lines))
    return 0


def _told(folder: RunFolder) -> RunSummary | None:
    """Return what the run in `folder` tells of itself; None where it is no run, or does not even say how it began."""
    return summarise_run(folder) if folder.journal.is_file() else None


def _step(folder: RunFolder, told: RunSummary) -> Step:
    """Return how the run in `folder` trains."""
    began = how_it_began(folder)
    if began is None:
        return Step()
    training = began.config.training
    images = told.batch_size or training.batch_size
    parts = min(training.accumulate, images)
    if training.optimizer == "adamw":
        return Step(images, parts, "AdamW", 2)
    return Step(images, parts) if training.momentum else Step(images, parts, "SGD", 0)


def as_object(architecture: "Architecture", summary: "ModelSummary", step: Step) -> dict[str, object]:
    """Return what `--json` prints: sizes in bytes, times in seconds or as shares of the whole."""
    memory = summary.memory(math.ceil(step.images / step.parts), step.states)
    root = summary.modules[0]
    return {
        "model": architecture.name,
        "input": summary.input,
        "classes": architecture.num_classes,
        "parameters": root.parameters,
        "trainable": root.trainable,
        "flops": root.flops,
        "flops_of": summary.counted,
        "seconds": summary.seconds,
        "memory": {
            "batch_size": step.images,
            "optimizer_kind": step.optimizer,
            **asdict(memory),
            "total": memory.total,
        },
        "modules": [asdict(module) for module in summary.modules],
    }


def tree_lines(summary: "ModelSummary", width: int = WIDTH) -> list[str]:
    """Return the table of modules, no line wider than `width` cells; names are cut, numbers never."""
    timed = summary.seconds is not None
    heading = ["OUTPUT", "PARAMS", "FLOPS", *(["TIME"] if timed else [])]
    numbers = [heading, *(_numbers(module, timed) for module in summary.modules)]
    widths = [max(cell_len(row[column]) for row in numbers) for column in range(len(heading))]
    room = width - sum(widths) - _GAP * len(widths)
    names = ["MODULE", *map(_name, summary.modules)]
    room = min(max(room, _NARROWEST), max(map(cell_len, names)))
    return [_line(name, row, room, widths) for name, row in zip(names, numbers, strict=True)]


def _line(name: str, numbers: Sequence[str], room: int, widths: Sequence[int]) -> str:
    if cell_len(name) > room:
        name = set_cell_size(name, room - 1).rstrip() + "…"
    cells = [set_cell_size(name, room)]
    cells += [" " * (width - cell_len(number)) + number for number, width in zip(numbers, widths, strict=True)]
    return (" " * _GAP).join(cells).rstrip()


def _name(module: "ModuleSummary") -> str:
    """Return the module's place in the tree, its own name, and what it is."""
    own = clean(module.name.rpartition(".")[2], 60)
    times = f" ({module.calls} calls)" if module.calls > 1 else ""
    return "  " * min(module.depth, _DEEPEST) + f"{own} {clean(module.summary, 60)}".strip() + times


def _numbers(module: "ModuleSummary", timed: bool) -> list[str]:
    shape = "-" if module.output is None else "×".join(map(str, module.output)) or "1"
    cells = [
        shape,
        short(module.parameters) if module.parameters else "-",
        "-" if module.flops is None else short(module.flops),
    ]
    if timed:
        cells.append("-" if module.time is None else f"{module.time:.0%}")
    return cells


def total_lines(summary: "ModelSummary", step: Step) -> list[str]:
    """Return the totals below the table."""
    root = summary.modules[0]
    memory = summary.memory(math.ceil(step.images / step.parts), step.states)
    lines = [
        f"input        {'×'.join(map(str, summary.input))}",
        f"parameters   {root.parameters:,}, of which {root.trainable:,} train",
        f"FLOPs        {short(root.flops or 0)} for one image: {summary.counted},",
        "             a multiply-add counts as 2",
    ]
    if summary.seconds is not None:
        lines.append(f"time         {1000 * summary.seconds:,.2f} ms for one image")
    images = "1 image" if step.images == 1 else f"{step.images:,} images"
    in_parts = f" in {step.parts:,} parts" if step.parts > 1 else ""
    lines.append(f"memory       {_size(memory.total)} at least, for {step.optimizer}, {images} per step{in_parts}:")
    parts = {"weights": memory.weights, "gradients": memory.gradients}
    parts |= {"moments" if step.states > 1 else "momentum": memory.optimizer} if step.states else {}
    parts["activations"] = memory.activations
    return [*lines, *(f"  {name:<11}  {_size(size):>7}" for name, size in parts.items())]


def _size(size: int) -> str:
    number, prefix = scaled(size)
    return f"{number} {prefix}B"
