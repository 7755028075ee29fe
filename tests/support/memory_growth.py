"""How much memory a script takes at most, in a process of its own."""

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

MOST_GROWTH = 100 << 20  # bytes, for what is refused

_MEASURE = """
import resource, sys
import psutil

def peak():
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * (1 if sys.platform == "darwin" else 1024)

def take_ballast():
    # Importing has taken more than is left of it: as much is taken again, so that any growth raises the peak.
    return bytearray(b"x") * max(peak() - psutil.Process().memory_info().rss, 0)
"""


def run_measured(script: str, *paths: Path) -> list[Any]:
    """Run `script`, which has `peak` and `take_ballast`, with `paths`; return the JSON that it prints, a line each."""
    command = [sys.executable, "-c", _MEASURE + script, *map(str, paths)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=150)
    assert done.returncode == 0, done.stderr
    return [json.loads(line) for line in done.stdout.splitlines()]
