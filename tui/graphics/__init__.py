"""Images in a terminal: half blocks, shades, or pixels where the terminal has them."""

from finetui.tui.graphics.cells import Fit, fit, strips
from finetui.tui.graphics.modes import MODES, Mode, choose_mode

__all__ = ["MODES", "Fit", "Mode", "choose_mode", "fit", "strips"]
