"""The `finetui` command."""

import os
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated

from cyclopts import App, CycloptsError, Parameter

from finetui.engine.errors import BadInput, FinetuiError
from finetui.engine.runs import kept_checkpoints
from finetui.engine.runs.folder import find_checkpoint, find_run
from finetui.engine.runs.summaries import summarise_runs
from finetui.engine.text import clean
from finetui.engine.version import __version__
from finetui.tui.cli import errors, live, log, resume
from finetui.tui.cli.options import Images, NotifyBy, RunMode, RunOptions, TrainingRecipe, WholeNumber
from finetui.tui.cli.start import begin

DONE, FAILED, BAD_INPUT, INTERRUPTED = 0, 1, 2, 130

app = App(
    name="finetui",
    help="Train and finetune image classifiers in the terminal: live curves, per-class accuracy, full control.",
    version=__version__,
    help_format="plaintext",
    default_parameter=Parameter(negative=(), show_default=False),
)


RunsDir = Annotated[Path, Parameter(help="Folder that holds the runs (default: checkpoints).")]


@app.default
def dashboard(
    *,
    options: RunOptions | None = None,
    recipe: TrainingRecipe = "default",
    start: bool = False,
    images: Images = "auto",
    notify: NotifyBy = "off",
) -> int:
    """Open the dashboard on a new run.

    Parameters
    ----------
    start
        Begin training at once instead of when told to.
    """
    from finetui.tui.app.launch import open_new_run

    config = (options or RunOptions()).to_config(recipe=recipe)
    return open_new_run(config, start=start, images=images, notify=notify)


@app.command
def train(
    *,
    options: RunOptions | None = None,
    recipe: TrainingRecipe = "default",
    json: bool = False,
    detach: bool = False,
) -> int:
    """Train without a dashboard; `finetui attach` opens one on it.

    Parameters
    ----------
    json
        Print the journal's events to standard output, one JSON object a line, and nothing else.
    detach
        Train in the background, and return once it has begun.
    """
    way = RunMode(json=json, detach=detach)
    way.check()
    return begin((options or RunOptions()).to_config(recipe=recipe), way)


@app.command
def finetune(
    *,
    from_: Annotated[str, Parameter(name="--from")],
    recipe: str = "lp-ft",
    freeze: Annotated[list[str] | None, Parameter(negative=(), consume_multiple=True)] = None,
    head: str = "auto",
    options: RunOptions | None = None,
    way: RunMode | None = None,
) -> int:
    """Finetune a run or a checkpoint: a new run that names its parent, which stays as it is.

    Settings that are not given are the parent's.

    Parameters
    ----------
    from_
        A run (its name or folder: the best checkpoint is used) or a checkpoint file.
    recipe
        linear-probe (only a new head), lp-ft (default: head, then all), gradual (thaw from the top), full, or fastai.
    freeze
        Layer groups or layers that stay frozen throughout.
    head
        keep, replace, features (a new layer on the flattened features), or auto (default: by recipe and classes).
    """
    from finetui.tui.cli.options import finetune_config

    way, given = way or RunMode(), options or RunOptions()
    way.check()
    path = kept_checkpoints.lasting(find_checkpoint(from_, Path(given.runs_dir or "checkpoints")))
    config = finetune_config(path, given, recipe=recipe, head=head, freeze=tuple(freeze or ()))
    return begin(config, way)


@app.command
def evaluate(
    *,
    from_: Annotated[str, Parameter(name="--from")],
    data: str | None = None,
    data_dir: Path | None = None,
    model: str = "lenet",
    device: str = "auto",
    runs_dir: RunsDir = Path("checkpoints"),
    json: bool = False,
) -> int:
    """Score a run or a checkpoint on a test set.

    Parameters
    ----------
    from_
        A run (its name or folder: the best checkpoint is used) or a checkpoint file.
    data
        Data set (default: the one that it was trained on).
    data_dir
        Folder to look for the data in first (default: $FINETUI_DATA).
    model
        Needed only for a checkpoint of your own code: package.module:factory or file.py:factory, which runs it.
    device
        auto, cpu, cuda, cuda:N or mps (default: auto).
    json
        Print one JSON object: accuracy, loss, n, per_class, confusion.
    """
    from finetui.tui.cli.evaluate import evaluate_headless

    return evaluate_headless(
        find_checkpoint(from_, runs_dir), data=data, data_dir=data_dir, model=model, device=device, as_json=json
    )


@app.command(name="runs")
def list_runs(*, runs_dir: RunsDir = Path("checkpoints"), json: bool = False) -> int:
    """List all runs, newest first.

    Parameters
    ----------
    json
        Print one JSON list.
    """
    from finetui.tui.cli.reports import print_runs

    print_runs(summarise_runs(runs_dir), as_json=json)
    return DONE


@app.command(name="open")
def open_run(
    run: str,
    /,
    *,
    data: str | None = None,
    model: str = "lenet",
    runs_dir: RunsDir = Path("checkpoints"),
    images: Images = "auto",
    notify: NotifyBy = "off",
) -> int:
    """Show a run's dashboard from its journal.

    Parameters
    ----------
    run
        The run: its name or its folder.
    data
        Needed only to see images of your own code's data: module:factory or file.py:factory, which runs it.
    model
        Needed only to look into a network of your own code: module:factory or file.py:factory, which runs it.
    """
    from finetui.tui.app.launch import open_finished_run

    return open_finished_run(find_run(run, runs_dir), data=data, model=model, images=images, notify=notify)


@app.command
def summary(
    *,
    model: str | None = None,
    data: str | None = None,
    data_dir: Path | None = None,
    image_size: WholeNumber | None = None,
    classes: WholeNumber | None = None,
    batch_size: WholeNumber = 64,
    from_: Annotated[str | None, Parameter(name="--from")] = None,
    time: bool = False,
    device: str = "auto",
    runs_dir: RunsDir = Path("checkpoints"),
    json: bool = False,
) -> int:
    """Print a network's module tree: shapes, parameters, FLOPs, and the memory that training takes.

    Parameters
    ----------
    model
        lenet (default), any classification model of torchvision (resnet18, ...), or module:factory, file.py:factory
        (runs that code).
    data
        Data set or folder that gives the images' shape and the classes (default: 1x28x28 and 10 for lenet, 3x224x224
        and 1000 for others). A set that is not on this machine is downloaded.
    data_dir
        Folder to look for the data in first (default: $FINETUI_DATA).
    image_size
        Side of the images in pixels.
    classes
        Number of classes.
    batch_size
        Images per training step that the memory is given for (default: 64).
    from_
        A run (its name or folder: the best checkpoint is used) or a checkpoint file, instead of a model and data.
    time
        Also run it and say which part of the time each module takes.
    device
        Where --time runs it: auto, cpu, cuda, cuda:N or mps (default: auto).
    json
        Print one JSON object: sizes in bytes, times in seconds or as shares of the whole.
    """
    from finetui.tui.cli.summary import print_summary

    return print_summary(
        model=model,
        data=data,
        data_dir=data_dir,
        image_size=image_size,
        classes=classes,
        batch_size=batch_size,
        path=None if from_ is None else find_checkpoint(from_, runs_dir),
        timed=time,
        device=device,
        as_json=json,
    )


errors.add_to(app)
log.add_to(app)
live.add_to(app)
resume.add_to(app)


def run(arguments: Sequence[str] | None = None) -> int:
    """Carry out the command line `arguments` (default: the process's own) and return the exit status.

    0 done, 1 a failure while running, 2 bad input, 130 interrupted; 128 + n after signal n.
    """
    try:
        status = app(arguments, exit_on_error=False, print_error=False, result_action="return_value")
        return int(status or DONE)
    except CycloptsError as error:
        return _complain(" ".join(str(error).split()), BAD_INPUT)
    except BadInput as error:
        return _complain(str(error), BAD_INPUT)
    except FinetuiError as error:
        return _complain(str(error), FAILED)
    except KeyboardInterrupt:
        return INTERRUPTED
    except BrokenPipeError:
        # The reader of our output (`head`, say) left. Python would complain again when it flushes at exit.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return FAILED


def _complain(message: str, status: int) -> int:
    print(f"finetui: {clean(message, 2000)}", file=sys.stderr)
    return status


def main() -> None:
    """Run the process's command line and exit."""
    sys.exit(run())
