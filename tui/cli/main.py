"""The `finetui` command."""

import os
import sys
from collections.abc import Callable, Sequence

from cyclopts import App, CycloptsError, Parameter

from finetui.engine.errors import BadInput, FinetuiError
from finetui.engine.text import clean
from finetui.engine.version import __version__
from finetui.tui.cli.errors import errors
from finetui.tui.cli.evaluate import evaluate
from finetui.tui.cli.finetune import finetune
from finetui.tui.cli.live import attach, rollback, stop
from finetui.tui.cli.log import log
from finetui.tui.cli.open import open_run
from finetui.tui.cli.options import Images, NotifyBy, RunOptions, TrainingRecipe
from finetui.tui.cli.predict import predict
from finetui.tui.cli.replay import replay
from finetui.tui.cli.resume import branch, extend, resume
from finetui.tui.cli.runs import list_runs
from finetui.tui.cli.start import train
from finetui.tui.cli.summary import summary

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
    """Open the dashboard on a new run.

    Parameters
    ----------
    start
        Begin training at once instead of when told to.
    """
    from finetui.tui.app.launch import open_new_run

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
    "open": open_run,
    "log": log,
    "evaluate": evaluate,
    "errors": errors,
    "predict": predict,
    "summary": summary,
}
for _name, _command in _COMMANDS.items():
    app.command(_command, name=_name)


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
