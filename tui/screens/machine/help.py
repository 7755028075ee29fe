"""The help for the Machine screen."""

from finetui.tui.screens.help import HelpScreen

_INTRODUCTION = (
    "What the machine that trains is busy with, which may be another one than that of this terminal. In a container, "
    "the memory and the cores are those that it may use. “This run” is the engine with the processes that load "
    "images for it.\n\n"
    "The bar at the top shows where the time of a step goes: waiting for images, copying them to the device, computing "
    "the step, and evaluating and saving in between. A GPU that waits for images wants more workers, smaller images, "
    "or images that are kept in memory; one that computes all the time is used well.\n\n"
    "Each graph goes from 0 to 100 %, that of the disk to the largest rate in sight. A GPU's frame tells its "
    "memory, temperature, power and clock, and who else is on it. All of it is kept in the run's journal, in less "
    "detail the longer the run."
)
_KEYS = (
    ("H", "The whole run, or the last 10 minutes"),
    ("↑ ↓", "Scroll, where there are more GPUs than room"),
    ("esc M q", "Back"),
)


def machine_help() -> HelpScreen:
    """Return the help for the Machine screen."""
    return HelpScreen("The Machine screen", _INTRODUCTION, _KEYS)
