"""What the help says about the Train screen."""

INTRODUCTION = (
    "The run: its curves, its classes, and its controls.\n\n"
    "The plots show every metric of the run: training metrics, smoothed as the title says (an exponential moving "
    "average) over a faint band from minimum to maximum, and after every epoch those of val, or of test where there is "
    "no val split; ★ is the best. Dotted lines mark changes: of the learning rate, of the layers that train, of the "
    "stage. A digit selects a plot; arrows or a click set a cursor that reads all plots; the wheel zooms, and dragging "
    "pans.\n\n"
    "The table shows, for each class, how many images are wrong, the change since the previous evaluation, and the "
    "class they are mostly mistaken for; where there is room also precision, recall, F1 score, loss and the number of "
    "images.\n\n"
    "Freezing a layer takes effect at the next step: it gets no gradient, and stays bit-for-bit the same until it is "
    "unfrozen.\n\n"
    "An alert disappears with Escape, when the learning rate or the layers change, and with a new best result."
)
