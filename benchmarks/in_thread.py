"""The dashboard over an engine in its own process's worker thread, as somebody embeds it; options as `finetui`'s."""

import sys

from cyclopts import App

from finetui.engine.session.local_link import LocalLink
from finetui.tui.app import launch
from finetui.tui.cli.options import RunOptions

app = App()


@app.default
def main(*, options: RunOptions | None = None, start: bool = False) -> int:
    """Open it."""
    return launch._run(LocalLink((options or RunOptions()).to_config(), autostart=start), "blocks")


if __name__ == "__main__":
    sys.exit(app())
