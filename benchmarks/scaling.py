"""From 1 to 4,096 ranks: what a few processes here measure, and what a model says of the many (docs/scaling.md)."""

import argparse
import json
import os
import statistics
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import msgspec
import numpy as np

from benchmarks import scaling_model as model
from benchmarks.measuring import Options, python, table
from finetui.engine.protocol.ranks import MOST_ROWS, RankRow

WORLDS = (1, 8, 64, 512, 4096)
FEW = (2, 3, 4)  # processes that are really there
IMAGENET = 1_281_167, 50_000  # images to train on, and to evaluate
EACH = 32  # images of a rank in a step
ROUNDS = 400
MICRO = 1e6
# Assumptions, not measured here: what is usual for 8 GPUs a node and one link of 400 Gbit/s a GPU between nodes.
BETWEEN = 30e-6  # seconds more that a small message takes by TCP between two nodes of one rack
NVLINK, LINK = 300e9, 40e9  # bytes a second that reach an all-reduce
SHARED_DISK = 5e9  # bytes a second, all nodes together
STEPS = {  # seconds of a step at EACH images (5,150 and 380 images/s: RESULTS.md, float32), parameters
    "resnet18": (EACH / 5150, 11_689_512),
    "vit_b_16": (EACH / 380, 86_567_656),
}


def run(_options: Options) -> str:
    """Return the section of the results."""
    measured = {world: measure(world) for world in FEW}
    network = fitted(measured)
    parts = [_few(measured, network), _order(), _agreement(network), _evaluation(), _journal(), _memory()]
    parts.append(_resume(network))
    return "\n\n".join(parts)


def fitted(measured: dict[int, dict[str, float]]) -> model.Network:
    """Return the network within a node: a broadcast to one other rank is one send, assumed a fifth, and its way."""
    two = measured[2]["broadcast"]
    return model.Network(within=two * 0.8, between=two * 0.8 + BETWEEN, send=two * 0.2)


def _few(measured: dict[int, dict[str, float]], network: model.Network) -> str:
    rows = []
    for world, found in measured.items():
        modelled = model.broadcast(world, network), model.ring(world, network)
        figures = [found["broadcast"], modelled[0], found["all_reduce"], modelled[1], found["gather"], found["object"]]
        rows.append([str(world), *(f"{MICRO * value:.0f}" for value in figures)])
    head = ["processes", "broadcast", "by the model", "all-reduce", "by the model", "gather", "broadcast of an object"]
    return "Measured: Gloo between processes of this machine, 32 bytes each, µs.\n\n" + table(head, rows)


def _order() -> str:
    train, _ = IMAGENET
    order = np.random.default_rng(0).permutation(train)
    rows = []
    for world in WORLDS:
        found = model.count_dealt(model.dealt(order, EACH * world, world), train)
        assert found.fewest_times == found.most_times == 1
        rows.append([f"{world:,}", f"{found.steps:,}", "1", f"{found.least} to {found.most}", f"{found.last:,}"])
        rows[-1].append(f"{found.idle:,}")
    head = ["ranks", "steps", "times each image is seen", "images of a rank in a step", "in the last step"]
    intro = f"Simulated: an epoch of {train:,} images, {EACH} a rank."
    return intro + "\n\n" + table([*head, "ranks without any there"], rows)


def _agreement(network: model.Network) -> str:
    rows = []
    for world in WORLDS:
        tree, ring = model.broadcast(world, network), model.ring(world, network)
        row = [
            f"{world:,}",
            f"{MICRO * tree:.0f}",
            f"{MICRO * ring:,.0f}",
            f"{MICRO * model.gather(world, network):,.0f}",
        ]
        for step, parameters in STEPS.values():
            summed = model.all_reduce(4 * parameters, world, NVLINK, LINK)
            row += [f"{1e3 * summed:.2f}", f"{100 * tree / step:.2f} %", str(model.agree_every(tree, step, 0.01))]
        rows.append(row)
    head = ["ranks", "broadcast, µs", "all-reduce of a few bytes in a ring, µs", "gather at rank 0, µs"]
    for name, (step, _) in STEPS.items():
        head += [f"{name}: gradients, ms (of {1e3 * step:.1f})", "broadcast, of a step", "at 1 %: every"]
    return "Modelled: the agreement of all ranks at a step, beside the sum of the gradients.\n\n" + table(head, rows)


def _evaluation() -> str:
    _, images = IMAGENET
    rows = []
    for world in WORLDS:
        row = [f"{world:,}"]
        for size in (16, 250):
            shards = model.evaluation_shards(images, size, world)
            assert model.put_in_order(shards) == list(range(images))
            row += [f"{max(map(len, shards)):,}", f"{model.evaluation_speed(shards):,.0f} x"]
        rows.append(row)
    head = ["ranks", "batches of 16: of the busiest rank", "as fast as one", "batches of 250", "as fast as one"]
    return f"Simulated: an evaluation of {images:,} images in whole batches, in order at rank 0.\n\n" + table(
        head, rows
    )


def _journal() -> str:
    row = RankRow(
        rank=4095,
        node="gpu-node-0512",
        device="cuda:7 (NVIDIA H100 80GB HBM3)",
        step=123_456,
        heard=1_790_000_000.123,
        samples_per_second=5150.25,
        waiting=0.0412,
        computing=0.7512,
        communicating=0.2012,
        memory=48_000_000_000,
        memory_total=85_000_000_000,
    )
    each = len(msgspec.json.encode(row))
    rows = []
    for world in WORLDS[1:]:
        shown = min(world, MOST_ROWS)
        sizes = [f"{model.rows_bytes(each, shown, days * 86_400) / 1e6:.1f} MB" for days in (1 / 24, 1, 7)]
        rows.append([f"{world:,}", str(shown), *sizes])
    head = ["ranks", "rows", "after an hour", "a day", "a week"]
    return f"Computed: what the ranks' rows, {each} bytes each, add to a journal.\n\n" + table(head, rows)


def _memory() -> str:
    rows = []
    for name, bf16 in (("momentum", False), ("adamw", False), ("adamw", True)):
        each = model.replica_bytes(name, bf16)
        found = [model.most_parameters(gigabytes * 1e9, 0.4, each) for gigabytes in (24, 80, 141)]
        precision = ", bf16" if bf16 else ""
        rows.append([f"{name}{precision}", f"{each:.0f}", *(f"{value / 1e9:.1f} billion" for value in found)])
    head = ["optimizer", "bytes a parameter", "24 GB", "80 GB", "141 GB"]
    return "Modelled: the largest network on one GPU, 40 % of it left for activations.\n\n" + table(head, rows)


def _resume(network: model.Network) -> str:
    size = 3 * 4 * STEPS["vit_b_16"][1]  # weights and what AdamW keeps
    rows = []
    for world in WORLDS:
        every, one = (
            model.read_by_all(size, world, SHARED_DISK),
            model.read_by_one(size, world, SHARED_DISK, network, LINK / 8),
        )
        rows.append([f"{world:,}", f"{every:.1f}", f"{one:.1f}", f"{world * (world - 1) // 2:,}"])
    intro = (
        f"Measured: the order of an epoch of {IMAGENET[0]:,} images takes {1e3 * _permuted():.0f} ms, at any place in "
        f"it and for any number of ranks; torch is imported in {_imported():.1f} s.\n\n"
        f"Modelled: a checkpoint of vit_b_16 with AdamW, {size / 1e9:.1f} GB."
    )
    head = ["ranks", "read once a node from a shared disk, s", "read by one and broadcast, s", "Gloo connections"]
    return intro + "\n\n" + table(head, rows)


def _permuted() -> float:
    from finetui.engine.data import epoch_order

    started = time.perf_counter()
    epoch_order(IMAGENET[0], 0, 7)
    return time.perf_counter() - started


def _imported() -> float:
    return float(python("-c", "import time; t = time.perf_counter(); import torch; print(time.perf_counter() - t)"))


def measure(world: int, rounds: int = ROUNDS) -> dict[str, float]:
    """Return the median seconds of some messages between `world` processes."""
    printed = python("-m", "benchmarks.scaling", str(world), str(rounds))
    found: dict[str, float] = json.loads(printed.splitlines()[-1])
    return found


def messages(rank: int, world: int, rounds: int, store: str, result: str) -> None:
    """Be one of the processes that are measured; rank 0 writes the file `result`."""
    import torch
    import torch.distributed as dist

    torch.set_num_threads(1)
    dist.init_process_group("gloo", init_method=f"file://{store}", rank=rank, world_size=world)
    small, parts = torch.zeros(4, dtype=torch.int64), [torch.zeros(4, dtype=torch.int64) for _ in range(world)]

    def there_and_back(source: Callable[[int], object]) -> Callable[[], object]:
        # From the first, then from the last, or the first would run ahead of those who wait for it.
        return lambda: (source(0), source(world - 1))

    works: dict[str, Callable[[], object]] = {
        "broadcast": there_and_back(lambda root: dist.broadcast(small, root)),
        "object": there_and_back(lambda root: dist.broadcast_object_list([{"step": 12345}], root)),
        "gather": there_and_back(lambda root: dist.gather(small, parts if rank == root else None, root)),
        "all_reduce": lambda: dist.all_reduce(small),
    }
    found = {}
    for name, work in works.items():
        times = []
        for _ in range(rounds):
            started = time.perf_counter()
            work()
            times.append(time.perf_counter() - started)
        found[name] = statistics.median(times[rounds // 10 :]) / (1 if name == "all_reduce" else 2)
    if rank == 0:
        Path(result).write_text(json.dumps(found))
    dist.destroy_process_group()


def main() -> None:
    """Measure between so many processes, and print it."""
    import torch.multiprocessing

    parser = argparse.ArgumentParser()
    parser.add_argument("world", type=int)
    parser.add_argument("rounds", type=int)
    options = parser.parse_args()
    os.environ.setdefault("GLOO_SOCKET_IFNAME", "lo")
    with tempfile.TemporaryDirectory() as folder:
        store, result = Path(folder) / "store", Path(folder) / "result"
        torch.multiprocessing.spawn(messages, (options.world, options.rounds, str(store), str(result)), options.world)
        print(result.read_text())


if __name__ == "__main__":
    main()
