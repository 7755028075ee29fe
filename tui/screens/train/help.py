"""What the help says about the Train screen."""

INTRODUCTION = (
    "The run: its curves, its classes, and all that steers it.\n\n"
    "The plots show every number of the run: of training in front of a faint band from the least to the greatest "
    "value, smoothed as the title says (an exponential moving average), and of val, where images are held out to "
    "choose by, else of test, after every epoch; ★ is the best. Dotted lines mark what was changed: the learning "
    "rate, which layers train, a stage. A digit chooses a plot; arrows or a click set a cursor that reads all of "
    "them; the wheel zooms, and dragging moves what is shown.\n\n"
    "The table shows, for each class, the number of val or test images, the share recognised, the F1 score, and the "
    "change since the previous evaluation in percentage points.\n\n"
    "Freezing a layer takes effect at the next step: it gets no gradient, and it stays the same bit for bit until it "
    "is unfrozen.\n\n"
    "An alert goes with Escape, once the rate or the layers are changed, and with a new best result."
)
