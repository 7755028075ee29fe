"""Long journals, many predictions, wide models: opening, memory and keys, over generated runs."""

import json
import statistics
import tempfile
import time
from pathlib import Path

from benchmarks.dashboard import FINETUI
from benchmarks.generated import SPIKE, make_run
from benchmarks.measuring import Options, percentile, python, table
from benchmarks.terminal import Terminal
from finetui.engine.runs.folder import RunFolder
from finetui.engine.runs.journal import JournalReader
from finetui.engine.runs.thinning import thinned

MILLION = 1_000_000
KEYS = 30


def run(_options: Options) -> str:
    """Return the section of the results."""
    with tempfile.TemporaryDirectory() as work:
        return "\n\n".join([_long_journal(Path(work)), _long_history(), _screens(Path(work))])


def _long_journal(work: Path) -> str:
    folder = make_run(work / "long", points=MILLION)
    size = folder.journal.stat().st_size
    reader = JournalReader(folder.journal)
    started = time.perf_counter()
    points = [event for event in thinned(reader, reader.glances(), size) if hasattr(event, "samples_per_second")]
    read = time.perf_counter() - started
    assert max(point.loss for point in points) == SPIKE
    small = make_run(work / "short", points=1000)
    times = {}
    for name, shown in (("short", small), ("long", folder)):
        terminal = _opened(shown)
        times[name] = terminal.until("finished") - terminal.started
        terminal.read(1.0)
        memory = terminal.memory()
        terminal.close()
    return (
        f"A journal of a million train points ({size / 1e6:.0f} MB) is read and thinned in {read:.2f} s, its spike "
        f"kept. `finetui open` shows it {times['long']:.2f} s after the call, one of a thousand points after "
        f"{times['short']:.2f} s; the dashboard then has had at most {memory:.0f} MB in memory."
    )


def _long_history() -> str:
    found = json.loads(python("-m", "benchmarks.scale"))
    return (
        f"Ten million points make a curve of {found['buckets']} buckets that takes {found['bytes'] / 1e3:.0f} KB; "
        f"least {found['low']:g}, greatest {found['high']:g}, mean {found['mean']:.4f} (of all points: "
        f"{found['true_mean']:.4f})."
    )


def history(points: int = 10 * MILLION) -> dict[str, float]:
    """Return what is left of so many points in a curve."""
    import numpy as np

    from finetui.tui.state.curves import Curve

    curve = Curve()
    values = np.random.default_rng(0).random(points)
    values[points // 3], values[points // 2] = -SPIKE, SPIKE
    for x, y in enumerate(values.tolist()):
        curve.add(x, y)
    _, drawn = curve.points()
    return {
        "buckets": len(curve),
        "bytes": sum(array.nbytes for array in vars(curve).values() if isinstance(array, np.ndarray)),
        "low": float(drawn.min()),
        "high": float(drawn.max()),
        "mean": curve.mean(),
        "true_mean": float(values.mean()),
    }


def _screens(work: Path) -> str:
    wide = make_run(work / "wide", layers=300, classes=1000, points=20_000)
    many = make_run(work / "many", predictions=MILLION)
    rows = [
        _keys("Train, 300 layers and 1000 classes", wide, "", "\x1b[B"),
        _keys("Train: next control", wide, "", "\t"),
        _keys("Layers, 300 groups: next line", wide, "g", "\x1b[B"),
        _keys("Errors, 100 000 among a million predictions: next image", many, "m", "\x1b[C"),
        _keys("Errors, a million predictions: next page", many, "m", "\x1b[6~"),
    ]
    return table(["screen", "key to paint, median ms", "95th percentile ms", "most memory, MB"], rows)


def _keys(title: str, folder: RunFolder, way: str, key: str) -> list[str]:
    terminal = _opened(folder)
    try:
        terminal.until("finished")
        terminal.read(1.0)
        terminal.press(way)
        terminal.read(2.0)
        lags = []
        for _ in range(KEYS):
            lags.append(1e3 * terminal.lag(key))
            terminal.read(0.1)
        return [title, f"{statistics.median(lags):.0f}", f"{percentile(lags, 0.95):.0f}", f"{terminal.memory():.0f}"]
    finally:
        terminal.close()


def _opened(folder: RunFolder) -> Terminal:
    return Terminal([*FINETUI, "open", str(folder.path)], Path.cwd())


if __name__ == "__main__":
    print(json.dumps(history()))
