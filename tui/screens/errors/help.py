"""What the help says about the Errors screen."""

INTRODUCTION = (
    "The images that the last evaluation misclassified, highest loss first.\n\n"
    "They are val images where a val split is held out, else test images; the title says which. Below each are the "
    "true class, the predicted class, and the network's confidence.\n\n"
    "loss: cross-entropy, -log of the true class's probability (nats). margin: the true class's probability minus that "
    "of the likeliest other class; below 0 it is a mistake, just above 0 a near miss.\n\n"
    "? possible label error: by confident learning, the network is more confident in another class than it usually is "
    "for images with that label. It is a guess, and a better network guesses better. They are ranked by label quality, "
    "the probability that the network gives the label. = the same image is in the training set.\n\n"
    "Explanations color what speaks for the predicted class (orange) and against it (blue), computed with the current "
    "weights of the run: Grad-CAM from the feature maps of the last stage, integrated gradients pixel by pixel, "
    "occlusion by covering patches."
)
