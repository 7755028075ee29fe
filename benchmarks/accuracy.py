"""Time to accuracy: the default recipe against the tutorial's own program, start-up and evaluation included."""

import json
import statistics

from benchmarks.measuring import Options, python, table

GOAL = 0.983  # what the tutorial's ten epochs reach
SEEDS = 5


def run(options: Options) -> str:
    """Return the section of the results."""
    tutorial = json.loads(python("-m", "benchmarks.accuracy", "article", options.data_dir))
    ours = [json.loads(python("-m", "benchmarks.accuracy", str(seed), options.data_dir)) for seed in range(SEEDS)]
    whole = tutorial["seconds"][-1]
    reached = [next((s for s, a in zip(o["seconds"], o["accuracy"], strict=True) if a >= GOAL), None) for o in ours]
    best = [next((s for s, a in zip(o["seconds"], o["accuracy"], strict=True) if a >= 0.99), None) for o in ours]
    rows = [["the tutorial", "", *_curve(tutorial)]]
    rows += [[f"finetui, seed {seed}", f"{reached[seed]} s", *_curve(found)] for seed, found in enumerate(ours)]
    found = [seconds for seconds in reached if seconds is not None]
    median = statistics.median(found) if len(found) == SEEDS else float("nan")
    sentence = (
        f"The tutorial's ten epochs took {whole:.1f} s and reached {tutorial['accuracy'][-1]:.2%}. The default recipe "
        f"reached {GOAL:.1%} after {median:.1f} s (median of {SEEDS} seeds), {whole / median:.1f} times sooner, and "
        f"99 % after {', '.join(f'{seconds} s' if seconds else 'its end not' for seconds in best)}."
    )
    return f"{sentence}\n\n{table(['program', f'{GOAL:.1%} after', 'test accuracy after each epoch (seconds)'], rows)}"


def _curve(found: dict[str, list[float]]) -> list[str]:
    pairs = zip(found["accuracy"], found["seconds"], strict=True)
    return [", ".join(f"{accuracy:.2%} ({seconds:.1f})" for accuracy, seconds in pairs)]


def ours(seed: int, data_dir: str, since: float) -> dict[str, list[float]]:
    """Train by the default recipe; return accuracy and seconds since `since` after each epoch."""
    import tempfile
    import time

    from finetui.engine.process.memory import keep_freed
    from finetui.engine.protocol.config import DataConfig, RunConfig, RunSection, TrainingConfig
    from finetui.engine.protocol.events import AnyEvent, Evaluated
    from finetui.engine.session.session import Session

    found: dict[str, list[float]] = {"accuracy": [], "seconds": []}

    def note(event: AnyEvent) -> None:
        if isinstance(event, Evaluated):
            found["accuracy"].append(event.accuracy)
            found["seconds"].append(round(time.perf_counter() - since, 2))

    keep_freed()
    with tempfile.TemporaryDirectory() as folder:
        config = RunConfig(
            data=DataConfig(name="mnist", dir=data_dir),
            training=TrainingConfig(seed=seed),
            run=RunSection(runs_dir=folder),
        )
        Session(config, sinks=[note]).run()
    return found


def article(data_dir: str, since: float) -> dict[str, list[float]]:
    """Train as the tutorial does, and evaluate after each epoch; return accuracy and seconds since `since`."""
    import time

    import torch
    from torch import nn
    from torch.utils.data import DataLoader
    from torchvision import datasets

    from benchmarks.loops import LR, MOMENTUM
    from benchmarks.loops.article import TRANSFORM, epoch
    from benchmarks.loops.net import Net

    torch.manual_seed(0)
    loaders = [
        DataLoader(datasets.MNIST(data_dir, train=train, transform=TRANSFORM), 64, shuffle=train)
        for train in (True, False)
    ]
    net, criterion = Net(), nn.CrossEntropyLoss()
    optimizer = torch.optim.SGD(net.parameters(), lr=LR, momentum=MOMENTUM)
    found: dict[str, list[float]] = {"accuracy": [], "seconds": []}
    for _ in range(10):
        epoch(net, loaders[0], criterion, optimizer)
        with torch.no_grad():
            hits = sum(int((net(inputs).argmax(1) == labels).sum()) for inputs, labels in loaders[1])
        found["accuracy"].append(hits / 10_000)
        found["seconds"].append(round(time.perf_counter() - since, 2))
    return found


def main() -> None:
    """Train once in this process, and print what came out."""
    import sys
    import time

    since, (who, data_dir) = time.perf_counter(), sys.argv[1:]
    print(json.dumps(article(data_dir, since) if who == "article" else ours(int(who), data_dir, since)))


if __name__ == "__main__":
    main()
