"""The one key map: a key means the same in the whole dashboard. Bindings, footer, help and docs come from it."""

from typing import NamedTuple

from textual.binding import Binding


class Key(NamedTuple):
    """What a key means; `keys` are Textual's names for it, by commas, `face` is how it is written if not as itself."""

    keys: str
    label: str
    help: str
    face: str = ""

    @property
    def shown(self) -> str:
        """How it is written on buttons, in the footer, the help and the docs."""
        return self.face or self.keys


KEYS: dict[str, Key] = {
    # Everywhere
    "back": Key("escape", "Back", "Go back one level; first closes a dialog, or clears a filter or comparison", "esc"),
    "close": Key("q", "Close", "Close this screen; on Train, quit the dashboard"),
    "help": Key("question_mark,f1", "Help", "What this screen shows, and its keys; F1 works while typing too", "?"),
    "commands": Key("ctrl+p", "Commands", "Find any action by name", "^p"),
    "confirm": Key("enter", "Confirm", "Open what is under the cursor, or confirm", "enter"),
    "toggle": Key("space", "Toggle", "Freeze the layer or mark the line under the cursor; otherwise pause or resume"),
    "undo": Key("u", "Undo", "Undo the last LR change or freeze; a rollback, until the next save"),
    "copy": Key("y", "Copy", "Copy the path or command on screen to the clipboard"),
    "zoom": Key("z", "Zoom", "Maximize the focused panel, or restore it"),
    "tab_number": Key("1,2,3,4,5,6,7,8,9", "Tab", "Go to the tab with that number", "1-9"),
    "smaller": Key("left_square_bracket", "Smaller", "Smaller thumbnails; in plots, zoom out", "["),
    "larger": Key("right_square_bracket", "Larger", "Larger thumbnails; in plots, zoom in", "]"),
    "filter": Key("slash", "Filter", "Filter the list", "/"),
    "order": Key("O", "Order", "Order by another column"),
    "reverse": Key("R", "Reverse", "Reverse the order"),
    "export": Key("greater_than_sign", "Export", "Write what is shown to a file", ">"),
    "compare": Key("D", "Compare", "Compare with another evaluation, or marked runs"),
    "theme": Key("ctrl+t", "Theme", "Switch between the dark and the light theme", "^t"),
    "suspend": Key("ctrl+z", "Suspend", "Suspend to the shell until its command fg; training continues", "^z"),
    # Screens
    "errors": Key("m", "Errors", "Misclassified images"),
    "layers": Key("g", "Layers", "Weights, gradients and features of each layer"),
    "runs": Key("r", "Runs", "All runs: filter, compare, tag, delete"),
    "checkpoints": Key("c", "Checkpoints", "Roll back to a checkpoint, branch, or save one"),
    "log": Key("o", "Log", "The journal, and the engine's output"),
    "machine": Key("M", "Machine", "CPU, memory, disk, GPUs, and where step time goes"),
    # The run
    "start": Key("s", "Start", "Start or resume training"),
    "step": Key("n", "Step", "While paused: take one training step"),
    "stop": Key("x", "Stop", "Save a checkpoint and end the run"),
    "evaluate": Key("e", "Evaluate", "Evaluate now (on val; on test if there is no val)"),
    "save": Key("w", "Save", "Save a checkpoint now"),
    "finetune": Key("f", "Finetune", "New run from these weights: recipe, head, data"),
    "extend": Key("E", "Extend", "Train for more epochs, or at another learning rate"),
    "find_rate": Key("L", "Find LR", "Try increasing learning rates on a model copy"),
    "rate": Key("l", "LR", "Set the learning rate"),
    "raise_rate": Key("plus,equals_sign", "LR up", "Next higher learning rate (1, 2, 5, 10, ...)", "+"),
    "lower_rate": Key("minus", "LR down", "Next lower learning rate; when rolling back, LR / 10", "-"),
    "freeze_layers": Key("F", "Freeze", "Go to the layer list, where space freezes a layer"),
    "freeze_above": Key("a", "Freeze above", "Freeze or unfreeze this layer and all above it"),
    "freeze_below": Key("b", "Freeze below", "Freeze or unfreeze this layer and all below it"),
    "detach": Key("d", "Detach", "Leave the dashboard; training continues"),
    "part": Key("p", "Val/test", "Switch between val and test (evaluates if needed)"),
    # Plots
    "x_axis": Key("X", "X axis", "Plot by epoch, step or time"),
    "log_axis": Key("Y", "Log axis", "Linear or logarithmic y axis"),
    "less_smoothing": Key("left_parenthesis", "Less smooth", "Smooth the curves less", "("),
    "more_smoothing": Key("right_parenthesis", "More smooth", "Smooth the curves more", ")"),
    # Checkpoints and runs
    "branch": Key("B", "Branch", "Start a new run from this checkpoint"),
    "keep": Key("K", "Keep", "Save the current state as a named checkpoint"),
    "tag": Key("t", "Tag", "Add or remove a run's tags"),
    "note": Key("A", "Note", "Write a note about a run"),
    "rename": Key("f2", "Rename", "Rename a run", "F2"),
    "delete": Key("delete", "Delete", "Delete a run, after confirmation", "Del"),
    # Errors
    "show": Key("v", "Show", "Show mistakes, unsure, correct or all images; in a comparison, fixed, newly wrong, ..."),
    "confusion": Key("C", "Confusion", "Confusion matrix and most confused pairs"),
    "scores": Key("S", "Scores", "Accuracy with its confidence interval, averages, ROC AUC, calibration"),
    "explain": Key("i", "Explain", "Where the network looked: Grad-CAM, integrated gradients, occlusion, off"),
    "label_errors": Key("exclamation_mark", "Label errors", "Only possible label errors", "!"),
    "duplicates": Key("U", "Duplicates", "Only images that are also in the training set"),
    "marked": Key("asterisk", "Marked", "Only marked images", "*"),
    "newest": Key("N", "Newest", "Show the newest evaluation"),
    "counts": Key("percent_sign", "Counts", "Counts or percentages", "%"),
    # Images
    "previous_image": Key("comma", "Previous image", "Previous image", ","),
    "next_image": Key("full_stop", "Next image", "Next image", "."),
    "image": Key("number_sign", "Image", "Go to an image by number", "#"),
    # Layers, Log, Machine
    "norm": Key("V", "Norm", "Keep or update statistics of frozen norm layers"),
    "fold_all": Key("Z", "Fold all", "Fold or unfold all"),
    "warnings": Key("W", "Warnings", "Only warnings and errors"),
    "history": Key("H", "History", "The whole run, or its last 10 minutes"),
}

# The first entry of each part of the table.
_PARTS = {
    "back": "Everywhere",
    "errors": "Screens",
    "start": "The run",
    "x_axis": "Plots",
    "branch": "Checkpoints and runs",
    "show": "Errors",
    "previous_image": "Images",
    "norm": "Layers, Log, Machine",
}

# Keys that move the cursor, and how they are written; they mean what they say wherever there is one.
MOVES = {
    "up": "↑",
    "down": "↓",
    "left": "←",
    "right": "→",
    "k": "k",
    "j": "j",
    "pageup": "PgUp",
    "pagedown": "PgDn",
    "home": "Home",
    "end": "End",
    "tab": "Tab",
    "shift+tab": "shift+Tab",
    "shift+left": "⇧←",
    "shift+right": "⇧→",
}

# Which entry a key belongs to, by Textual's name for it.
NAMES = {one: name for name, key in KEYS.items() for one in key.keys.split(",")}


def parts() -> dict[str, list[str]]:
    """Return the parts of the table by name, each with the names of its entries."""
    found: dict[str, list[str]] = {}
    for name in KEYS:
        part = _PARTS.get(name) or list(found)[-1]
        found.setdefault(part, []).append(name)
    return found


def face(key: str) -> str:
    """Return how `key`, by Textual's name for it, is written."""
    if key in MOVES:
        return MOVES[key]
    return KEYS[NAMES[key]].shown if key in NAMES else key


def bind(name: str, action: str = "", *, label: str = "", show: bool = True, priority: bool = False) -> Binding:
    """Return the binding of the key called `name` to `action`, by default the action of that name.

    A `label` of its own says what Enter, Space or Escape do here; other keys are called the same everywhere.
    """
    key = KEYS[name]
    return Binding(
        key.keys,
        action or name,
        label or key.label,
        show=show,
        key_display=key.shown,
        priority=priority,
        tooltip=label or key.help,
    )


def move(keys: str, action: str, label: str = "", *, show: bool = False, priority: bool = False) -> Binding:
    """Return the binding of some of the `MOVES`, by commas, to `action`."""
    shown = "".join(MOVES[key] for key in keys.split(","))
    return Binding(keys, action, label, show=show, key_display=shown, tooltip=label, priority=priority)


def bind_tabs(*actions: str) -> list[Binding]:
    """Return the bindings of the numbers from 1 on to `actions`, in this order."""
    key = KEYS["tab_number"]
    return [
        Binding(number, action, key.label, show=False, key_display=key.shown, tooltip=key.help)
        for number, action in zip(key.keys.split(","), actions, strict=False)
    ]


def as_markdown() -> str:
    """Return the key map as the page `docs/keys.md`."""
    lines = [
        "# Keys",
        "",
        "Each key means the same on every screen. `?` (or `F1`, which works while typing too) shows the keys of the "
        "current screen or dialog; `ctrl+p` finds any action by name.",
        "",
        "Arrow keys, `PgUp`, `PgDn`, `Home`, `End` and `j` `k` move the cursor, `Tab` and `shift+Tab` the focus. "
        "`Enter` confirms, `Esc` goes back one level: it first closes a dialog, or clears a filter or a comparison. A "
        "screen's letter opens that screen from any other, in its place; pressed again, it closes the screen.",
        "",
        "tmux delays `Esc` by half a second in case it begins another key: with `set -sg escape-time 20` in "
        "`~/.tmux.conf` it acts at once.",
    ]
    for part, names in parts().items():
        lines += ["", f"## {part}", "", "| Key | | What it does |", "| --- | --- | --- |"]
        lines += [f"| `{KEYS[name].shown}` | {KEYS[name].label} | {KEYS[name].help} |" for name in names]
    return "\n".join(lines) + "\n"


if __name__ == "__main__":
    print(as_markdown(), end="")
