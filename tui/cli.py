"""The `finetui` command."""

import os
import re
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

from cyclopts import App, CycloptsError, Parameter, Token

from engine import runs
from engine.config import RunConfig, SectionName, load, with_overrides
from engine.errors import BadInput, FinetuiError
from engine.text import clean
from engine.version import __version__

DONE, FAILED, BAD_INPUT, INTERRUPTED = 0, 1, 2, 130

app = App(
    name="finetui",
    help="Train and finetune image classifiers in the terminal: live curves, per-class accuracy, full control.",
    version=__version__,
    help_format="plaintext",
    default_parameter=Parameter(negative=(), show_default=False),
)


def _whole(_type: type, tokens: Sequence[Token]) -> int:
    # cyclopts itself would round 1.5 to 2.
    if not re.fullmatch(r"[+-]?\d+", tokens[0].value):
        raise ValueError(f"{clean(tokens[0].value, 60)!r} is not a whole number")
    return int(tokens[0].value)


WholeNumber = Annotated[int, Parameter(converter=_whole)]


@Parameter(name="*")
@dataclass(frozen=True, kw_only=True)
class RunOptions:
    """The options that describe a run; what is not given comes from --config, then from the defaults."""

    data: str | None = None
    "Data set: mnist, fashion-mnist or mnist-sample (default: mnist)."
    data_dir: str | None = None
    "Folder to look for the data in first (default: $FINETUI_DATA)."
    model: str | None = None
    "Network: lenet (the default)."
    epochs: WholeNumber | None = None
    "Number of epochs (default: 10)."
    batch_size: WholeNumber | None = None
    "Images per step (default: 64)."
    lr: float | None = None
    "Learning rate (default: 0.001)."
    momentum: float | None = None
    "Momentum of SGD (default: 0.9)."
    seed: WholeNumber | None = None
    "Seed of the weights and of the data order (default: 0)."
    device: str | None = None
    "auto, cpu, cuda, cuda:N or mps (default: auto)."
    name: str | None = None
    "Name of the run (default: date, data and model)."
    runs_dir: str | None = None
    "Folder that holds the runs (default: checkpoints)."
    config: Path | None = None
    "TOML file with any of these settings, as in a run's config.toml."

    def to_config(self) -> RunConfig:
        """Return the configuration that these options describe. Raises `BadInput`."""
        base = load(self.config) if self.config is not None else RunConfig()
        overrides: dict[tuple[SectionName, str], object] = {
            ("data", "name"): self.data,
            ("data", "dir"): self.data_dir,
            ("model", "name"): self.model,
            ("training", "epochs"): self.epochs,
            ("training", "batch_size"): self.batch_size,
            ("training", "lr"): self.lr,
            ("training", "momentum"): self.momentum,
            ("training", "seed"): self.seed,
            ("training", "device"): self.device,
            ("run", "name"): self.name,
            ("run", "runs_dir"): self.runs_dir,
        }
        config = with_overrides(base, overrides)
        runs.check_runs_dir(Path(config.run.runs_dir))
        if config.run.name and (Path(config.run.runs_dir) / config.run.name).exists():
            raise BadInput(
                f"a run named {config.run.name!r} exists in {clean(config.run.runs_dir)}; choose another --name"
            )
        return config


RunsDir = Annotated[Path, Parameter(help="Folder that holds the runs (default: checkpoints).")]


@app.default
def dashboard(*, options: RunOptions | None = None, start: bool = False) -> int:
    """Open the dashboard on a new run.

    Parameters
    ----------
    start
        Begin training at once instead of when told to.
    """
    from tui.dashboard import open_new_run

    return open_new_run((options or RunOptions()).to_config(), start=start)


@app.command
def train(*, options: RunOptions | None = None, json: bool = False) -> int:
    """Train without a dashboard.

    Parameters
    ----------
    json
        Print the journal's events to standard output, one JSON object a line, and nothing else.
    """
    from tui.headless import train_headless

    return train_headless((options or RunOptions()).to_config(), as_json=json)


@app.command
def evaluate(
    *,
    from_: Annotated[str, Parameter(name="--from")],
    data: str | None = None,
    data_dir: Path | None = None,
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
    device
        auto, cpu, cuda, cuda:N or mps (default: auto).
    json
        Print one JSON object: accuracy, loss, n, per_class, confusion.
    """
    from tui.headless import evaluate_headless

    return evaluate_headless(
        runs.find_checkpoint(from_, runs_dir), data=data, data_dir=data_dir, device=device, as_json=json
    )


@app.command(name="runs")
def list_runs(*, runs_dir: RunsDir = Path("checkpoints"), json: bool = False) -> int:
    """List all runs, newest first.

    Parameters
    ----------
    json
        Print one JSON list.
    """
    from tui.reports import print_runs

    print_runs(runs.summaries(runs_dir), as_json=json)
    return DONE


@app.command(name="open")
def open_run(run: str, /, *, runs_dir: RunsDir = Path("checkpoints")) -> int:
    """Show a run's dashboard from its journal.

    Parameters
    ----------
    run
        The run: its name or its folder.
    """
    from tui.dashboard import open_finished_run

    return open_finished_run(runs.find(run, runs_dir))


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
