"""Run one of the loops in this process: `python -m benchmarks.loops hand --data-dir DATA`."""

import argparse
import json
from importlib import import_module


def main() -> None:
    """Print the seconds of each epoch."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("loop")
    parser.add_argument("--data-dir", required=True)
    parser.add_argument("--batch-size", type=int, default=64)
    parser.add_argument("--epochs", type=int, default=2)
    parser.add_argument("--fast", default="auto", help="of finetui")
    options = parser.parse_args()
    train = import_module(f"benchmarks.loops.{options.loop}").train
    extra = {"fast": options.fast} if options.loop == "ours" else {}
    print(json.dumps({"seconds": train(options.data_dir, options.batch_size, options.epochs, **extra)}))


if __name__ == "__main__":
    main()
