"""What the help says about the Layers screen."""

INTRODUCTION = (
    "Every module of the network: its size, its gradient and update during training, and a view into it.\n\n"
    "Each line is a module: its output shape for one image, its parameters, whether they train, its FLOPs for one "
    "image (a multiply-add counts as 2) and its share of the forward pass time. ■ frozen, □ trains, ◧ partly frozen, "
    "· bypassed by the forward pass.\n\n"
    "During training, two columns show the latest measured step: gradient, its L2 norm, and update, the norm of the "
    "step's weight change over the norm of the weights. About 1e-3 is healthy; ↑ marks more than 1e-2 (the learning "
    "rate may be too high), ↓ less than 1e-5 (the layer hardly learns). A module with several layers shows the update "
    "of the one that is furthest off, if any is marked.\n\n"
    "Below, or on the right, is a view into the selected layer. In filters, mid-gray is zero, white and black are the "
    "layer's largest magnitude, positive and negative; filters with three input channels are shown in color. In "
    "feature maps, black is the layer's smallest value, white its largest.\n\n"
    "Audit watches the next 20 steps and shows for each parameter and buffer whether it changed, its gradient, and "
    "which optimizer has it. What claims to be frozen but changes, or claims to train but does not, is red (✗ in the "
    "tree), with the reason. Press 5 again to repeat it."
)
