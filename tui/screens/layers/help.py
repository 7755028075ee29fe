"""What the help says about the Layers screen."""

INTRODUCTION = (
    "Every module of the network: its size, its gradient and update while training, and a look into it.\n\n"
    "Each line is a module: the shape of what it returns for one image, its parameters, whether they train, its FLOPs "
    "for one image (a multiply-add counts as 2) and its share of the time of a forward pass. ■ frozen, □ trains, "
    "◧ partly, · bypassed by the forward pass.\n\n"
    "While training runs, two numbers of the latest measured step change: gradient, its L2 norm, and update, the norm "
    "of what the step changed in the weights over the norm of the weights. About 1e-3 is healthy; ↑ marks more than "
    "1e-2 (the learning rate may be too high), ↓ less than 1e-5 (the layer hardly learns). A module of several layers "
    "shows the update of the one that is furthest from that, if any is marked.\n\n"
    "Below, or on the right, is a look into the chosen layer. In filters, mid-grey is zero, white and black are the "
    "largest magnitude in the layer, positive and negative; of filters that see three colours, these are shown. In "
    "feature maps, black is the smallest value in the layer, white the largest.\n\n"
    "Audit watches the next 20 steps, and tells of each parameter and buffer whether it moved, its gradient, and which "
    "optimizer has it. What claims to be frozen and moves, or claims to train and does not, is red (✗ in the tree), "
    "with the reason. 5 once more asks again."
)
