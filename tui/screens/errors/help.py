"""What the help says about the Errors screen."""

INTRODUCTION = (
    "The images that were misclassified at the last evaluation, the highest loss first.\n\n"
    "They are of val where images are held out to choose by, else of test; the title says which. Below each stand the "
    "true class, the predicted one, and how sure the network was.\n\n"
    "loss: how little probability the true class was given (nats). margin: the true class's probability less that of "
    "the likeliest other; below 0 it is a mistake, just above it a near miss.\n\n"
    "? possible label error: by confident learning, the network is surer of another class than it usually is of images "
    "with that label. It is a guess, and the better the network, the better a guess. They are ranked by label quality, "
    "the probability that the network gives the label. = the same image is in the training set.\n\n"
    "Explanations colour what speaks for the predicted class (orange) and what speaks against it (blue), with the "
    "weights that the run has now: Grad-CAM by the maps of the last stage, integrated gradients pixel by pixel, "
    "occlusion by covering patches."
)
