"""What the help says about the Errors screen."""

INTRODUCTION = (
    "The images that the network got wrong at its last evaluation, the highest loss first.\n\n"
    "They are of val where images are held out to choose by, else of test; the first line says which. Below each stand "
    "the true class and what the network took it for, and how sure it was.\n\n"
    "loss: how little probability the true class was given (nats). margin: the true class's probability less that of "
    "the likeliest other; below 0 it is a mistake, just above it a near miss.\n\n"
    "? the label is possibly wrong: by confident learning, the network is surer of another class than it usually is of "
    "images with that label. The filter (f) knows prune by noise rate as well. = the same image is in "
    "the training set.\n\n"
    "Explanations (e) colour what spoke for the class that the network chose, and what spoke against it, with the "
    "weights that the run has now: Grad-CAM by the maps of the last stage, integrated gradients pixel by pixel, "
    "occlusion by covering patches."
)
