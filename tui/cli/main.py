"""The `finetui` command."""

import inspect
import io
import os
import sys
from collections.abc import Callable, Mapping, Sequence
from contextlib import nullcontext
from typing import Any

from cyclopts import App, CycloptsError, Parameter

from finetui.engine.errors import BadInput, FinetuiError
from finetui.engine.text import clean
from finetui.engine.version import __version__
from finetui.tui.cli.audit import audit
from finetui.tui.cli.calibrate import calibrate
from finetui.tui.cli.card import card
from finetui.tui.cli.compare import compare
from finetui.tui.cli.complaints import complaint
from finetui.tui.cli.complete import models
from finetui.tui.cli.completion import completion_for
from finetui.tui.cli.errors import errors
from finetui.tui.cli.evaluate import evaluate
from finetui.tui.cli.export import export
from finetui.tui.cli.finetune import finetune
from finetui.tui.cli.launched import run_as_rank
from finetui.tui.cli.live import attach, rollback, stop
from finetui.tui.cli.log import log
from finetui.tui.cli.open import open_run
from finetui.tui.cli.options import Images, NotifyBy, RunOptions, TrainingRecipe
from finetui.tui.cli.organise import delete, note, rename, tag
from finetui.tui.cli.predict import predict
from finetui.tui.cli.replay import replay
from finetui.tui.cli.reports import PLAIN_SIGNS, data_only
from finetui.tui.cli.resume import branch, extend, resume
from finetui.tui.cli.runs import list_runs
from finetui.tui.cli.start import train
from finetui.tui.cli.summary import summary
from finetui.tui.cli.watch import watch

DONE, FAILED, BAD_INPUT, INTERRUPTED = 0, 1, 2, 130

app = App(
    name="finetui",
    help="Train and finetune image classifiers in the terminal: live curves, per-class accuracy, full control.",
    version=__version__,
    help_format="plaintext",
    default_parameter=Parameter(negative=(), show_default=False),
)


@app.default
def dashboard(
    *,
    options: RunOptions | None = None,
    recipe: TrainingRecipe = "default",
    start: bool = False,
    images: Images = "auto",
    notify: NotifyBy = "off",
) -> int:
    """Open the dashboard: without options, on a form that asks what to train; with any, on a new run.

    Parameters
    ----------
    start
        Start training at once instead of waiting to be told.
    """
    from finetui.tui.app.launch import open_first, open_new_run

    if not start and recipe == "default" and (options or RunOptions()) == RunOptions():
        return open_first(RunOptions().to_config(), models(), images=images, notify=notify)
    config = (options or RunOptions()).to_config(recipe=recipe)
    return open_new_run(config, start=start, images=images, notify=notify)


_COMMANDS: dict[str, Callable[..., int]] = {
    "train": train,
    "finetune": finetune,
    "attach": attach,
    "stop": stop,
    "resume": resume,
    "extend": extend,
    "rollback": rollback,
    "branch": branch,
    "replay": replay,
    "runs": list_runs,
    "compare": compare,
    "tag": tag,
    "note": note,
    "rename": rename,
    "delete": delete,
    "open": open_run,
    "watch": watch,
    "log": log,
    "audit": audit,
    "evaluate": evaluate,
    "calibrate": calibrate,
    "errors": errors,
    "predict": predict,
    "export": export,
    "card": card,
    "summary": summary,
}


def _description(command: Callable[..., int]) -> str:
    """Return what a command's docstring says before its parameters, each paragraph in one line: the help wraps it."""
    text = inspect.cleandoc(command.__doc__ or "").partition("\nParameters\n---")[0]
    return "\n\n".join(" ".join(paragraph.split()) for paragraph in text.strip().split("\n\n"))


app.command(completion_for(app), name="completion", help=_description(completion_for(app)))
# Of these the run, or a checkpoint, was an option once.
_TAKE_A_CHECKPOINT = ("finetune", "evaluate", "errors", "predict", "summary")
for _name, _command in _COMMANDS.items():
    app.command(_command, name=_name, help=_description(_command))


def run(arguments: Sequence[str] | None = None) -> int:
    """Carry out the command line `arguments` (default: the process's own) and return the exit status.

    0 done, 1 a failure while running, 2 bad input, 130 interrupted; 128 + n after signal n.
    """
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors=PLAIN_SIGNS)  # a locale without these signs is no reason to fail
    return _guarded(lambda: _obey(arguments))


def _obey(arguments: Sequence[str] | None) -> int:
    command, bound, _ = app.parse_args(_with_run_first(arguments), exit_on_error=False, print_error=False)
    with data_only() if _prints_data(bound.arguments) else nullcontext():
        return int(command(*bound.args, **bound.kwargs) or DONE)


def _guarded(work: Callable[[], int]) -> int:
    """Do `work` and return its exit status; what goes wrong is said in a sentence, and has a status of its own."""
    try:
        return work()
    except CycloptsError as error:
        return _complain(complaint(error, (*_COMMANDS, "completion")), BAD_INPUT)
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


def _with_run_first(arguments: Sequence[str] | None) -> list[str]:
    """Return the words of a command line (default: the process's own) with the run that `--from` names as the first.

    That is how earlier versions named it, and scripts still do.
    """
    words = list(sys.argv[1:] if arguments is None else arguments)
    if not words or words[0] not in _TAKE_A_CHECKPOINT:
        return words
    options = words[1 : words.index("--")] if "--" in words else words[1:]
    for at, word in enumerate(options, 1):
        if word.startswith("--from="):
            return [words[0], word.partition("=")[2], *words[1:at], *words[at + 1 :]]
        if word == "--from":
            return [words[0], *words[at + 1 : at + 2], *words[1:at], *words[at + 2 :]]
    return words


def _prints_data(arguments: Mapping[str, Any]) -> bool:
    """Whether a command with these arguments prints JSON or CSV; some have their options in objects."""
    options = ("json", "csv")
    return any(arguments.get(name) or getattr(value, name, False) for value in arguments.values() for name in options)


def _complain(message: str, status: int) -> int:
    print(f"finetui: {clean(message, 2000)}", file=sys.stderr)
    return status


def main() -> None:
    """Run the process's command line and exit."""
    sys.exit(_guarded(lambda: run_as_rank(run, _guarded)))
