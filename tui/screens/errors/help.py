"""The help for the Errors screen."""

from finetui.tui.keys import KEYS
from finetui.tui.screens.help import HelpScreen

_INTRODUCTION = (
    "The images that were misclassified at the last evaluation, highest loss first: of val where images are held out "
    "to choose by, else of test; the title says which. Below each stand the true class, the predicted one, and how "
    "sure the network was.\n\n"
    "loss: how little probability the true class was given (nats). margin: the true class's probability less that of "
    "the likeliest other; below 0 it is a mistake, just above it a near miss.\n\n"
    "? possible label error: by confident learning, the network is surer of another class than it usually is of images "
    "with that label. It is a guess, and the better the network, the better a guess. They are ranked by label quality, "
    "the probability that the network gives the label. = the same image is in the training set.\n\n"
    "Explanations colour what speaks for the predicted class (orange) and what speaks against it (blue), with the "
    "weights that the run has now: Grad-CAM by the maps of the last stage, integrated gradients pixel by pixel, "
    "occlusion by covering patches."
)
_NAMES = (
    "confirm", "back", "show", "filter", "order", "reverse", "confusion", "counts", "scores", "part", "compare",
    "explain", "label_errors", "duplicates", "toggle", "marked", "export", "copy", "evaluate", "newest", "smaller",
    "larger", "previous_image", "next_image", "help", "close",
)  # fmt: skip
_HERE = {
    "confirm": "Give the image the whole screen, or the grid its place back",
    "toggle": "Mark the image",
    "copy": "Copy the path of the last export, or of the image",
}


def errors_help() -> HelpScreen:
    """Return the help for the Errors screen."""
    keys = [("↑↓←→", "Go through the images; PgUp, PgDn, Home and End as well"), ("1-4", KEYS["tab_number"].help)]
    keys += [(KEYS[name].face or KEYS[name].keys, _HERE.get(name, KEYS[name].help)) for name in _NAMES]
    return HelpScreen("The Errors screen", _INTRODUCTION, keys)
