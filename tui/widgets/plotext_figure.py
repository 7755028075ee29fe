"""A figure of plotext's without all that draws no lines: its documentation, demos, tests and pictures take 9 MB."""

import sys
from contextlib import suppress
from importlib import import_module
from importlib.util import find_spec, module_from_spec
from typing import Any

from finetui.tui.without_modules import without_modules

_HOMES = (("plotext._kernel.terminal", "terminal"), ("plotext._plotter.plot", "plot_class"))  # modules, classes


def new_figure() -> Any:
    """Return a figure of plotext's that no limits are set to, beside its global one; for one thread at a time."""
    # hashlib has functions of its own beside those of OpenSSL.
    with without_modules("PIL", "ffpyplayer", "yt_dlp", "_hashlib"):
        terminal, figure = _classes()
    # A figure asks its terminal how large it may be, so it gets one of its own that has no limits.
    return figure(terminal().limit(False, False))


def _classes() -> tuple[Any, ...]:
    """Return plotext's classes of terminals and figures; of a version that has them elsewhere, all is imported."""
    if "plotext" not in sys.modules:
        with suppress(ImportError, AttributeError):
            return _from_their_modules()
    import plotext

    return type(plotext.terminal), type(plotext.figure)


def _from_their_modules() -> tuple[Any, ...]:
    spec = find_spec("plotext")
    if spec is None:
        raise ModuleNotFoundError("No module named 'plotext'", name="plotext")
    # For as long as this takes, the package is there without its own code having run, which imports all modules.
    sys.modules["plotext"] = module_from_spec(spec)
    try:
        return tuple(getattr(import_module(module), name) for module, name in _HOMES)
    finally:
        del sys.modules["plotext"]
