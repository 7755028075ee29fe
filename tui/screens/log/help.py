"""What the help says about the Log screen."""

INTRODUCTION = (
    "The journal of this run, and what its engine printed.\n\n"
    "The journal is what happened in this run, from its beginning: when, after how many training steps, and who asked "
    "for it where several dashboards are open. A ! marks warnings, a ✗ errors.\n\n"
    "↶ marks a return to a checkpoint. What it undid is struck through and says undone: it happened, but the weights "
    "that the run has now know nothing of it.\n\n"
    "The engine's output is what the engine process and its libraries printed, which never reaches the screen "
    "otherwise; the newest 5,000 lines of it."
)
