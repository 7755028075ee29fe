"""What mixed precision brings here: the seconds of a training step, by fp32 and by bf16 in turn."""

import json
import statistics
import time

from benchmarks.measuring import Options, in_turn, python, table

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
        full, half = statistics.median(taken["fp32"]), statistics.median(taken["bf16"])
        rows.append([f"{name}, {side}x{side}, batch {batch_size}", f"{1e3 * full:.1f}", f"{1e3 * half:.1f}"])
        rows[-1].append(f"{full / half:.2f} x")
    note = "Weights and optimizer are float32 in both, and so is every evaluation."
    return table(["step of", "fp32, ms", "bf16, ms", "bf16 is as fast"], rows) + f"\n\n{note}"


def measure(case: tuple[str, int, int, int, int], rounds: int) -> dict[str, list[float]]:
    """Return the seconds of a step of `case` by each precision, on random images, some times in turn."""
    import torch

    from engine.config import TrainingConfig
    from engine.data.resident import ResidentSplit
    from engine.device import resolve
    from engine.memory import keep_freed
    from engine.models import Architecture, build, module_groups
    from engine.training import fast
    from engine.training.trainer import Trainer
    from engine.values import FastPath

    keep_freed()
    name, channels, side, batch_size, steps = case
    device = resolve("auto")
    pixels = torch.randint(0, 256, (40 * batch_size, channels, side, side), dtype=torch.uint8, device=device)
    labels = torch.randint(0, 10, (40 * batch_size,), device=device)
    data = ResidentSplit(pixels, labels, (0.5,) * channels, (0.25,) * channels)
    path = FastPath(channels_last=True, fused=True)

    def trainer(precision: str) -> Trainer:
        architecture = Architecture(name=name, num_classes=10, in_channels=channels, height=side, width=side)
        model = build(architecture, 0).to(device)
        fast.arrange(model, path)
        training = TrainingConfig(batch_size=batch_size, epochs=1000, precision=precision)
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

    trainers = {precision: trainer(precision) for precision in ("fp32", "bf16")}
    for one in trainers.values():
        seconds(one)
    return in_turn({name: lambda one=one: seconds(one) for name, one in trainers.items()}, rounds)


if __name__ == "__main__":
    import sys

    print(json.dumps(measure(tuple(json.loads(sys.argv[1])), int(sys.argv[2]))))
