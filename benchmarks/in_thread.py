"""The dashboard over an engine in its own process's worker thread, as somebody embeds it; options as `finetui`'s."""

import sys

from cyclopts import App

from engine.link import LocalLink
from tui import dashboard
from tui.options import RunOptions

app = App()


@app.default
def main(*, options: RunOptions | None = None, start: bool = False) -> int:
    """Open it."""
    return dashboard._run(LocalLink((options or RunOptions()).to_config(), autostart=start), "blocks")


if __name__ == "__main__":
    sys.exit(app())
