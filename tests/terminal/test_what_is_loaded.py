"""What the dashboard's process has imported once it shows a run: what it has no use for would only take memory."""

import sys
from pathlib import Path

SAMPLE = ["--data", "mnist-sample", "--device", "cpu", "--batch-size", "20", "--lr", "0.01", "--schedule", "constant"]
NOT_NEEDED = {
    *("torch", "torchvision"),  # the engine's, in a process of its own
    *("PIL", "textual_image"),  # for pictures on terminals that draw them
    *("ssl", "_ssl", "_hashlib"),  # OpenSSL: 5 MB
    *("plotext", "plotext.prettydoc", "plotext._doc", "plotext._tests", "plotext._demos", "unittest", "argparse"),
    *("psutil", "pynvml"),  # the machine is looked at by the engine
    *("numpy.ma", "numpy.random", "numpy.fft", "numpy.polynomial", "numpy.testing"),
    *("email", "http", "xml", "multiprocessing", "pygments", "rich.markdown"),
    *(f"finetui.tui.screens.{name}.screen" for name in ("errors", "layers", "log", "machine", "runs", "runs.compared")),
}
# At the exit, by which the screens of a run have been shown; and how often garbage is looked for.
PROGRAM = """
import atexit, gc, sys
def tell():
    with open("loaded", "w") as file:
        print(gc.get_threshold(), *sys.modules, sep="\\n", file=file)
atexit.register(tell)
from finetui.tui.cli.main import main
main()
"""


def test_a_dashboard_with_a_live_run_has_loaded_only_what_it_shows(open_terminal, tmp_path: Path) -> None:
    terminal = open_terminal(
        *(*SAMPLE, "--epochs", "1000", "--start", "--linger", "0"),
        columns=120,
        rows=40,
        program=(sys.executable, "-c", PROGRAM),
    )
    terminal.until("running", "img/s", "the best so far")
    terminal.type("x")
    terminal.until("Stop training?")
    terminal.type("\r")
    terminal.until("stopped")
    terminal.type("q")
    assert terminal.until_exit() == 0
    thresholds, *loaded = (tmp_path / "loaded").read_text().splitlines()
    assert {"finetui.tui.screens.train.screen", "plotext._plotter.plot", "asyncio.sslproto"} <= set(loaded)
    assert sorted(NOT_NEEDED & set(loaded)) == []
    assert thresholds == "(700, 10, 3)"
