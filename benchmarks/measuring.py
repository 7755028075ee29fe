"""What the benchmarks share: taking turns, medians, the machine in words, tables."""

import json
import os
import platform
import statistics
import subprocess
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).parents[1]


@dataclass(frozen=True)
class Options:
    """How thoroughly, and on which data: `data_dir` holds MNIST as torchvision lays it out.

    The others are for `gpu`: where, for how many seconds each time, and which networks (none: all).
    """

    data_dir: str
    rounds: int
    device: str = "cuda"
    seconds: float = 1.5
    networks: tuple[str, ...] = ()


def in_turn(contenders: Mapping[str, Callable[[], float]], rounds: int) -> dict[str, list[float]]:
    """Return what each contender measured, one after the other, `rounds` times: the machine's moods meet all alike."""
    measured: dict[str, list[float]] = {name: [] for name in contenders}
    for _ in range(rounds):
        for name, measure in contenders.items():
            measured[name].append(measure())
    return measured


def ratio(measured: Mapping[str, Sequence[float]], one: str, other: str) -> float:
    """Return how many times as long `one` took as `other`: the ratio of their medians."""
    return statistics.median(measured[one]) / statistics.median(measured[other])


def python(*arguments: str) -> str:
    """Return what a fresh interpreter prints to standard output."""
    done = subprocess.run([sys.executable, *arguments], cwd=ROOT, capture_output=True, text=True)
    if done.returncode:
        raise SystemExit(f"python {' '.join(arguments)} failed:\n{done.stderr[-2000:]}")
    return done.stdout


def epoch_seconds(loop: str, options: Options, batch_size: int, epochs: int = 2, fast: str = "auto") -> float:
    """Return the median seconds of an epoch by one of `benchmarks.loops`, in a process of its own."""
    arguments = ["--data-dir", options.data_dir, "--batch-size", str(batch_size), "--epochs", str(epochs)]
    printed = python("-m", "benchmarks.loops", loop, *arguments, "--fast", fast)
    seconds: list[float] = json.loads(printed.splitlines()[-1])["seconds"]
    return statistics.median(seconds)


def percentile(values: Sequence[float], share: float) -> float:
    """Return the value that `share` of `values` do not exceed."""
    return sorted(values)[min(int(share * len(values)), len(values) - 1)]


def table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """Return a table in Markdown."""
    lines = [head, ["---"] * len(head), *rows]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def machine() -> str:
    """Return the machine in words."""
    import torch

    model = platform.processor() or platform.machine()
    cpus = Path("/proc/cpuinfo")
    if cpus.is_file():
        names = [line.partition(":")[2].strip() for line in cpus.read_text().splitlines() if "model name" in line]
        model = names[0] if names else model
    gpu = torch.cuda.get_device_name() if torch.cuda.is_available() else "no GPU"
    return (
        f"{os.cpu_count()} cores ({model}), {gpu}; {platform.system()}, Python {platform.python_version()}, "
        f"torch {torch.__version__}"
    )
