"""The help for the Errors screen."""

from finetui.tui.screens.help import HelpScreen

_INTRODUCTION = (
    "Every image that the network got wrong at its last evaluation, the highest loss first: of val where images are "
    "held out to choose by, else of test; the first line says which. Below each stand the true class and what the "
    "network took it for, and how sure it was.\n\n"
    "loss: how little probability the true class was given (nats). margin: the true class's probability less that of "
    "the likeliest other; below 0 it is a mistake, just above it a near miss.\n\n"
    "? the label is possibly wrong: by confident learning, the network is surer of another class than it usually is of "
    "images with that label. The filter (f) knows prune by noise rate as well. = the same image is in "
    "the training set.\n\n"
    "Explanations (e) colour what spoke for the class that the network chose, and what spoke against it, with the "
    "weights that the run has now: Grad-CAM by the maps of the last stage, integrated gradients pixel by pixel, "
    "occlusion by covering patches."
)
_KEYS = (
    ("↑↓←→", "Go through the images; PgUp, PgDn, Home and End as well"),
    ("enter", "Give the image the whole screen; escape brings the grid back"),
    ("[ ]", "Smaller or larger thumbnails"),
    ("v", "Show mistakes, right but unsure ones, right ones, all; while comparing: fixed, broken, still wrong"),
    ("o O", "Order by loss, confidence, margin or place; turn the order round"),
    ("f", "Filter by true and predicted class, confidence, path, flags"),
    ("c", "Clear all filters"),
    ("m", "Confusion matrix and most confused pairs: a cell opens its images"),
    ("s", "Scores: accuracy with its interval, averages, ROC-AUC, calibration and its diagram"),
    ("p", "Show the other part, val or test, which is evaluated first where it was not yet"),
    ("d", "Compare with another run or evaluation on the same images; again: end the comparison"),
    ("e", "Where the network looked: Grad-CAM, integrated gradients, occlusion, off"),
    ("l u k", "Only possible label errors; only training images; only marked ones"),
    ("space", "Mark the image"),
    ("x", "Export what is listed or marked: CSV, JSON, contact sheet, or a folder of images"),
    ("n", "Show the newest evaluation"),
    ("esc q", "Back"),
)


def errors_help() -> HelpScreen:
    """Return the help for the Errors screen."""
    return HelpScreen("The Errors screen", _INTRODUCTION, _KEYS)
