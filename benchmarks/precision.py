"""What mixed precision and `torch.compile` bring here: the seconds of a training step, by each way in turn."""

import json
import os
import statistics
import tempfile
import time

from benchmarks.measuring import Options, in_turn, python, table

WAYS = {"fp32": {}, "bf16": {"precision": "bf16"}, "compiled": {"compile": "default"}}
# Network, channels, side in pixels, images a step, steps for each measurement.
CASES = (
    ("lenet", 1, 28, 64, 300),
    ("lenet", 1, 28, 512, 60),
    ("resnet18", 3, 64, 32, 8),
    ("resnet18", 3, 224, 8, 4),
    ("mobilenet_v3_small", 3, 96, 32, 10),
)


def run(options: Options) -> str:
    """Return the section of the results."""
    rows = []
    for case in CASES:
        name, _, side, batch_size, _ = case
        taken = json.loads(python("-m", "benchmarks.precision", json.dumps(case), str(options.rounds)))
        full, half, compiled = (1e3 * statistics.median(taken[way]) for way in WAYS)
        compiling = statistics.median(taken["compiling"])
        label = f"{name}, {side}x{side}, batch {batch_size}"
        mixed = [f"{half:.1f}", f"{full / half:.2f} x"]
        rows.append([label, f"{full:.1f}", *mixed, f"{compiled:.1f}", f"{full / compiled:.2f} x", f"{compiling:.0f}"])
    heads = ["step of", "fp32, ms", "bf16, ms", "as fast", "compiled, ms", "as fast", "compiling, s"]
    note = "Weights and optimizer are float32 in all, and so is every evaluation; compiled is fp32 by torch.compile."
    return table(heads, rows) + f"\n\n{note}"


def measure(case: tuple[str, int, int, int, int], rounds: int) -> dict[str, list[float]]:
    """Return the seconds of a step of `case` by each way, on random images, some times in turn; and of compiling it."""
    os.environ["TORCHINDUCTOR_CACHE_DIR"] = tempfile.mkdtemp()  # as on a machine that has compiled nothing yet
    import torch

    from finetui.engine.data.resident import ResidentSplit
    from finetui.engine.models import Architecture, build, module_groups
    from finetui.engine.models.device import resolve
    from finetui.engine.process.memory import keep_freed
    from finetui.engine.protocol.config import TrainingConfig
    from finetui.engine.protocol.values import FastPath
    from finetui.engine.training import fast_paths
    from finetui.engine.training.trainer import Trainer

    keep_freed()
    name, channels, side, batch_size, steps = case
    device = resolve("auto")
    pixels = torch.randint(0, 256, (40 * batch_size, channels, side, side), dtype=torch.uint8, device=device)
    labels = torch.randint(0, 10, (40 * batch_size,), device=device)
    data = ResidentSplit(pixels, labels, (0.5,) * channels, (0.25,) * channels)
    path = FastPath(channels_last=True, fused=True)

    def trainer(settings: dict[str, str]) -> Trainer:
        architecture = Architecture(name=name, num_classes=10, in_channels=channels, height=side, width=side)
        model = build(architecture, 0).to(device)
        fast_paths.arrange(model, path)
        training = TrainingConfig(batch_size=batch_size, epochs=1000, **settings)
        return Trainer(model, module_groups(model), data, training, path=path, classes=10)

    def seconds(taken: Trainer) -> float:
        started = time.perf_counter()
        for _ in range(steps):
            taken.train_step()
            if taken.position == taken.steps_per_epoch:
                taken.end_epoch()
        if device.type != "cpu":
            torch.accelerator.synchronize(device)
        return (time.perf_counter() - started) / steps

    trainers = {way: trainer(settings) for way, settings in WAYS.items()}
    started = time.perf_counter()
    trainers["compiled"].train_step()
    compiling = time.perf_counter() - started
    for one in trainers.values():
        seconds(one)
    taken = in_turn({name: lambda one=one: seconds(one) for name, one in trainers.items()}, rounds)
    return taken | {"compiling": [compiling]}


if __name__ == "__main__":
    import sys

    print(json.dumps(measure(tuple(json.loads(sys.argv[1])), int(sys.argv[2]))))
