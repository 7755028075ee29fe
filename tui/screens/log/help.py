"""What the help says about the Log screen."""

INTRODUCTION = (
    "The journal of this run, and its engine's output.\n\n"
    "The journal lists what happened in this run from the start: when, at which training step, and, with several "
    "dashboards open, who asked for it. ! marks warnings, ✗ errors.\n\n"
    "↶ marks a return to a checkpoint. What it undid is struck through and marked undone: it happened, but the current "
    "weights no longer reflect it.\n\n"
    "The engine's output is what the engine process and its libraries printed, which is shown nowhere else; its newest "
    "5,000 lines."
)
