"""Headless throughput: LeNet on the full MNIST against a hand-written loop, the tutorial's, and other trainers."""

import importlib.util
import json
import statistics
import time
from functools import partial

from benchmarks.measuring import Options, epoch_seconds, in_turn, python, ratio, table

BY_HAND, TUTORIAL = "by hand, in memory", "the tutorial's loop"
PEERS = {"lightning": "Lightning, rich progress bar", "ignite": "PyTorch-Ignite, progress bar", "fastai": "fastai"}


def run(options: Options) -> str:
    """Return the section of the results."""
    parts = []
    for batch_size in (64, 512):
        epochs = 2 if batch_size == 64 else 4
        seconds = partial(epoch_seconds, options=options, batch_size=batch_size)
        quick = {BY_HAND: partial(seconds, "hand", epochs=epochs)} | {
            f"finetui --fast {fast}": partial(seconds, "ours", epochs=epochs, fast=fast)
            for fast in ("off", "on", "auto")
        }
        slow = {TUTORIAL: partial(seconds, "article", epochs=1)} | {
            title: partial(seconds, name, epochs=1)
            for name, title in PEERS.items()
            if importlib.util.find_spec(name) is not None
        }
        measured = in_turn(quick, options.rounds) | in_turn(slow, max(options.rounds // 2, 1))
        rows = [
            [
                title,
                f"{statistics.median(taken):.2f} ({min(taken):.2f} to {max(taken):.2f})",
                f"{ratio(measured, BY_HAND, title):.2f} x",
                f"{ratio(measured, TUTORIAL, title):.2f} x",
            ]
            for title, taken in measured.items()
        ]
        head = [f"batch {batch_size}", "seconds an epoch", "as fast as by hand", "as the tutorial's"]
        parts.append(table(head, rows))
    return "\n\n".join([*parts, where_the_time_goes()])


def where_the_time_goes() -> str:
    """Return a profile of the step, from a fresh process."""
    rows = []
    for batch_size in (64, 512):
        found = json.loads(python("-m", "benchmarks.throughput", str(batch_size)))
        total = found["total"]
        parts = [f"{found[name] / total:.0%}" for name in ("gather", "forward", "backward", "optimizer")]
        limit = f"{found['flops'] / total / 1e9:.0f} of {found['peak'] / 1e9:.0f} GFLOP/s"
        rows.append([str(batch_size), f"{total * 1e3:.2f} ms", *parts, limit])
    head = ["batch", "step", "gather", "forward", "backward", "optimizer", "of the matrix-multiply limit"]
    return "Where the time of a step goes (channels-last, fused):\n\n" + table(head, rows)


def profile(batch_size: int) -> dict[str, float]:
    """Return the seconds of a step's parts, its floating-point operations, and those a second of a large product."""
    import torch
    from torch.nn import functional as F
    from torch.utils.flop_counter import FlopCounterMode

    from finetui.engine.models.lenet import LeNet
    from finetui.engine.process.memory import keep_freed

    keep_freed()
    images = torch.randint(0, 256, (20_000, 1, 28, 28), dtype=torch.uint8)
    labels = torch.randint(0, 10, (20_000,))
    net = LeNet().to(memory_format=torch.channels_last)
    optimizer = torch.optim.SGD(net.parameters(), lr=1e-3, momentum=0.9, fused=True)
    spent = dict.fromkeys(("gather", "forward", "backward", "optimizer"), 0.0)
    steps = 0
    for turn in range(6):
        for indices in torch.randperm(len(images)).split(batch_size):
            moments = [time.perf_counter()]
            inputs, wanted = images[indices].float().div_(255).sub_(0.13).div_(0.31), labels[indices]
            moments.append(time.perf_counter())
            optimizer.zero_grad()
            loss = F.cross_entropy(net(inputs), wanted)
            moments.append(time.perf_counter())
            loss.backward()
            moments.append(time.perf_counter())
            optimizer.step()
            moments.append(time.perf_counter())
            if turn:
                steps += 1
                for name, start, end in zip(spent, moments, moments[1:], strict=False):
                    spent[name] += end - start
    with FlopCounterMode(display=False) as counter:
        F.cross_entropy(net(images[:batch_size].float()), labels[:batch_size]).backward()
    left = torch.rand(1024, 1024)
    rates = []
    for _ in range(20):
        started = time.perf_counter()
        left @ left
        rates.append(2 * 1024**3 / (time.perf_counter() - started))
    parts = {name: seconds / steps for name, seconds in spent.items()}
    return parts | {
        "total": sum(parts.values()),
        "flops": counter.get_total_flops(),
        "peak": statistics.median(rates),
    }


if __name__ == "__main__":
    import sys

    print(json.dumps(profile(int(sys.argv[1]))))
