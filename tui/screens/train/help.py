"""What the help says about the Train screen."""

INTRODUCTION = (
    "The run: its curves, its classes, and all that steers it.\n\n"
    "The plots show the training loss and accuracy (means between two points) and those on val, where images are held "
    "out to choose by, else on test, measured after every epoch. A tick on the edge marks what was changed by hand: "
    "the learning rate, or which layers train.\n\n"
    "The table shows, for each class, the number of val or test images, the share recognised, the F1 score, and the "
    "change since the previous evaluation in percentage points.\n\n"
    "Freezing a layer takes effect at the next step: it gets no gradient, and it stays the same bit for bit until it "
    "is unfrozen.\n\n"
    "An alert goes with Escape, once the rate or the layers are changed, and with a new best result."
)
