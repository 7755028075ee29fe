"""What the help says about the Layers screen."""

from finetui.tui.screens.help import HelpScreen

_INTRODUCTION = (
    "Each line is a module: the shape of what it returns for one image, its parameters, whether they train, its FLOPs "
    "for one image (a multiply-add counts as 2) and its share of the time of a forward pass. ■ frozen, □ trains, "
    "◧ partly, · bypassed by the forward pass.\n\n"
    "While training runs, two numbers of the latest measured step change: gradient, its L2 norm, and update, the norm "
    "of what the step changed in the weights over the norm of the weights. About 1e-3 is healthy; ↑ marks more than "
    "1e-2 (the learning rate may be too high), ↓ less than 1e-5 (the layer hardly learns).\n\n"
    "Below, or on the right, is a look into the chosen layer. In filters, mid-grey is zero, white and black are the "
    "largest magnitude in the layer, positive and negative; of filters that see three colours, these are shown. In "
    "feature maps, black is the smallest value in the layer, white the largest."
)
_KEYS = (
    ("↑↓", "Choose a module; PgUp, PgDn, Home and End as well"),
    ("← →", "Fold or unfold a module, or go to the one it is in; so does a click on ▾"),
    ("z", "Fold or unfold all; so does a click on the heading"),
    ("␣", "Freeze or unfreeze the module with all in it; so does a click on its state"),
    ("a b", "Freeze everything above or below; where all of it is frozen, unfreeze it"),
    ("m", "Whether frozen normalisation layers keep their statistics or go on collecting"),
    ("1 2 3 4", "Filters, feature maps, histogram of weights, of activations; again: look anew"),
    (", .", "Previous or next val (else test) image, for feature maps and activations"),
    ("i", "Type the number of an image; Enter applies it"),
    ("[ ]", "Smaller or larger images"),
    ("y", "Heights of the histogram: linear or logarithmic; so does a click on it"),
    ("v", "Give the look the whole screen, and back; so does a double click on an image"),
    ("tab", "From the modules to the images and back"),
    ("esc g q", "Back"),
)


def layers_help() -> HelpScreen:
    """Return the help for the Layers screen."""
    return HelpScreen("The Layers screen", _INTRODUCTION, _KEYS)
