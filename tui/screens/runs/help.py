"""The help for the Runs screen and for runs side by side."""

from finetui.tui.keys import KEYS
from finetui.tui.screens.help import HelpScreen

_RUNS = (
    "All runs of this folder, live ones first, then the newest, each finetune below the run that it started from. "
    "★ marks the best of those that were evaluated on the same images.\n\n"
    "A filter is one or more of name, state, live, best, last, test, epoch, epochs, step, lr, batch, optimizer, "
    "schedule, seed, recipe, model, data, part, started, took, size, parent, tag and note, with : (contains), = != < "
    "<= > or >= and a value: lr>0.01 model:resnet18 best>98% tag:keep -state:crashed. A word alone is looked for in "
    "name, data, model, tags and note; - turns one round."
)
_RUNS_KEYS = ("confirm", "toggle", "compare", "filter", "order", "reverse", "tag", "note", "rename", "delete", "copy")
_COMPARED = (
    "The marked runs side by side. Curves: a colour for each run; training values are means. Settings: only those that "
    "differ. Scores: each run's best evaluation and, for each pair on the same images, McNemar's test: p is the "
    "probability, were both equally good, of counts at least as unequal. Errors: what one of a pair gets right and the "
    "other does not; Enter shows the images."
)
_COMPARED_KEYS = ("tab_number", "zoom", "log_axis", "confirm", "copy")


def _help(title: str, text: str, names: tuple[str, ...], more: tuple[tuple[str, str], ...] = ()) -> HelpScreen:
    keys = [(KEYS[name].face or KEYS[name].keys, KEYS[name].help) for name in (*names, "back")]
    return HelpScreen(title, text, [*more, *keys])


def runs_help() -> HelpScreen:
    """Return the help for the Runs screen."""
    return _help("The Runs screen", _RUNS, _RUNS_KEYS)


def compared_help() -> HelpScreen:
    """Return the help for runs side by side."""
    return _help("Runs compared", _COMPARED, _COMPARED_KEYS, (("← →", "Another plot, while one has the whole screen"),))
