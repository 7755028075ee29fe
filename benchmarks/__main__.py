"""Run the benchmarks named (all by default), and print their results or write them to a file.

python -m benchmarks --data-dir DATA [--rounds 3] [--write benchmarks/RESULTS.md] [throughput accuracy ...]
"""

import argparse
import datetime
import os
import re
import sys
import time
from importlib import import_module
from pathlib import Path

from benchmarks.measuring import Options, machine

TITLES = {
    "throughput": "Headless throughput",
    "precision": "Mixed precision and compiling",
    "accuracy": "Time to accuracy",
    "dashboard": "The dashboard's cost, keys and bytes",
    "start": "Start",
    "scale": "Scale",
    "features": "What is frozen is computed once",
    "photos": "Streaming of photographs",
    "ranks": "Several processes, one run",
    "scaling": "Many ranks",
    "watching": "A person's own loop, watched",
    "gpu": "Training on a GPU",
}
WITHOUT_DATA = ("gpu", "scaling", "watching")
NOT_BY_DEFAULT = ("gpu",)  # it needs a machine of its own


def main() -> None:
    """Measure, and write."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("names", nargs="*", default=[], help=f"any of {', '.join(TITLES)} (default: all but gpu)")
    parser.add_argument("--data-dir", default=os.environ.get("FINETUI_DATA", ""), help="holds MNIST")
    parser.add_argument("--rounds", type=int, default=3)
    # To try the benchmark gpu itself on a machine without one.
    parser.add_argument("--device", default="cuda", help=argparse.SUPPRESS)
    parser.add_argument("--seconds", type=float, default=1.5, help=argparse.SUPPRESS)
    parser.add_argument("--networks", nargs="+", default=[], help=argparse.SUPPRESS)
    parser.add_argument("--write", type=Path, help="a Markdown file whose sections of these names are replaced")
    options = parser.parse_args()
    names = options.names or [name for name in TITLES if name not in NOT_BY_DEFAULT]
    unknown = set(names) - set(TITLES)
    if unknown or (not options.data_dir and set(names) - set(WITHOUT_DATA)):
        parser.error(f"there is no benchmark {min(unknown)!r}" if unknown else "name the folder of MNIST: --data-dir")
    given = (options.device, options.seconds, tuple(options.networks))
    for name in names:
        began = time.perf_counter()
        measure = import_module(f"benchmarks.{name}").run
        found = measure(Options(str(Path(options.data_dir).absolute()), options.rounds, *given))
        data = "" if name in WITHOUT_DATA else " --data-dir DATA"
        command = f"python -m benchmarks {name}{data} --rounds {options.rounds}"
        minutes = (time.perf_counter() - began) / 60
        note = f"`{command}`, {datetime.date.today()}, {minutes:.0f} min, {machine()}."
        section = f"## {TITLES[name]}\n\n{note}\n\n{found}\n"
        print(section, flush=True)
        if options.write:
            put(options.write, TITLES[name], section)


def put(path: Path, title: str, section: str) -> None:
    """Replace the section `title` of the file `path`, or add it at its end."""
    text = path.read_text() if path.is_file() else "# Results\n"
    pattern = re.compile(rf"## {re.escape(title)}\n.*?(?=\n## |\Z)", re.S)
    text = pattern.sub(lambda _: section, text) if pattern.search(text) else f"{text}\n{section}"
    path.write_text(text)


if __name__ == "__main__":
    sys.exit(main())
