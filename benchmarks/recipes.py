"""Finetune the shipped LeNet (trained on MNIST) to Fashion-MNIST by each recipe, against training from scratch.

    python benchmarks/recipes.py --data-dir DATA [--epochs 3] [--lrs 0.01 0.03] [--seeds 0 1]

Prints a table: test accuracy after the same number of epochs, the best of the learning rates, mean over the seeds.
"""

import argparse
import statistics
import tempfile
import time
from pathlib import Path

import msgspec

from finetui.engine.protocol.config import RECIPES, DataConfig, FinetuneConfig, RunConfig, RunSection, TrainingConfig
from finetui.engine.session.session import Session

PARENT = Path(__file__).parents[1] / "checkpoints" / "lenet-mnist" / "last.ckpt"


def accuracy(config: RunConfig, recipe: str | None) -> tuple[float, float]:
    """Return the test accuracy and the seconds that the run took."""
    if recipe is not None:
        config = msgspec.structs.replace(config, finetune=FinetuneConfig(parent=str(PARENT), recipe=recipe))
    started = time.monotonic()
    outcome = Session(config).run()
    assert outcome.report is not None
    return outcome.report.accuracy, time.monotonic() - started


def main() -> None:
    """Run every recipe and print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data-dir", required=True)
    parser.add_argument("--epochs", type=int, default=3)
    parser.add_argument("--lrs", type=float, nargs="+", default=[0.01, 0.03])
    parser.add_argument("--seeds", type=int, nargs="+", default=[0])
    options = parser.parse_args()
    print(f"{'recipe':<14}{'accuracy':>10}{'best lr':>9}{'seconds':>9}")
    for recipe in (None, *RECIPES):
        found = []
        for lr in options.lrs:
            scores = []
            for seed in options.seeds:
                with tempfile.TemporaryDirectory() as folder:
                    config = RunConfig(
                        data=DataConfig(name="fashion-mnist", dir=options.data_dir),
                        training=TrainingConfig(epochs=options.epochs, lr=lr, seed=seed),
                        run=RunSection(runs_dir=folder),
                    )
                    scores.append(accuracy(config, recipe))
            found.append((statistics.mean(s for s, _ in scores), lr, statistics.median(t for _, t in scores)))
        best, lr, seconds = max(found)
        print(f"{recipe or 'from scratch':<14}{best:>10.2%}{lr:>9g}{seconds:>9.1f}", flush=True)


if __name__ == "__main__":
    main()
