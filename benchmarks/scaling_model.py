"""A run on many ranks without the ranks: the data order, messages, evaluation, journal, memory and a resume.

All here are pure functions of their arguments; times are in seconds, sizes in bytes, bandwidths in bytes a second.
"""

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from finetui.engine.distributed.dealing import deal
from finetui.engine.machine.watch import journal_seconds

Order = npt.NDArray[np.int64]


# -- the data order -----------------------------------------------------------------------------------------


def dealt(order: Order, batch_size: int, world: int, start: int = 0) -> Iterator[list[Order]]:
    """Yield for each step what each of `world` ranks sees of `order`, from its image number `start` on.

    A step takes the next `batch_size` images of the one order, of all ranks together, and the engine's own rule divides
    them; where the last batch is short, some ranks get none.
    """
    for first in range(start, len(order), batch_size):
        batch = order[first : min(first + batch_size, len(order))]
        parts = deal(len(batch), world)
        yield [batch[begin : begin + size] for begin, size in zip(parts.starts, parts.sizes, strict=True)]


@dataclass(frozen=True)
class Dealt:
    """What an epoch was: how often each image was seen, and the least and most that a rank had in a step.

    `last` is the size of the last batch, `idle` the number of ranks without an image in it.
    """

    steps: int
    fewest_times: int
    most_times: int
    least: int
    most: int
    last: int
    idle: int


def count_dealt(steps: Iterator[list[Order]], images: int) -> Dealt:
    """Return what `steps`, which see `images` images, were."""
    seen: list[Order] = []
    sizes = [0]
    count, least, most = 0, images, 0
    for shards in steps:
        count += 1
        seen += shards
        sizes = [len(shard) for shard in shards]
        least, most = min(least, *sizes), max(most, *sizes)
    times = np.bincount(np.concatenate(seen), minlength=images)
    return Dealt(count, int(times.min()), int(times.max()), least, most, sum(sizes), sizes.count(0))


# -- the agreement ------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Network:
    """What a small message costs: `within` a node and `between` nodes from send to receipt, `send` for its sender."""

    within: float
    between: float
    send: float
    per_node: int = 8

    def latency(self, sender: int, receiver: int) -> float:
        """Return what a message from rank `sender` to rank `receiver` takes; ranks fill one node after the other."""
        same = sender // self.per_node == receiver // self.per_node
        return self.within if same else self.between


def broadcast(world: int, network: Network) -> float:
    """Return when the last rank has what rank 0 broadcasts at time 0, by a binomial tree, the nearest first.

    In round k the 2^k ranks that have it send it on, each to the rank 2^k further (Gloo's `broadcast` does so); a rank
    does not wait for a send before its next one, but has done the work of it.
    """
    free = [0.0]  # when each rank that has it can send it on
    arrived = 0.0
    while len(free) < world:
        for sender in range(min(len(free), world - len(free))):
            free[sender] += network.send
            receiver = len(free)
            free.append(free[sender] + network.latency(sender, receiver))
            arrived = max(arrived, free[receiver])
    return arrived


def ring(world: int, network: Network) -> float:
    """Return what an all-reduce of a few bytes takes in a ring: twice round it, one message after the other."""
    if world == 1:
        return 0.0
    once = sum(network.latency(rank, (rank + 1) % world) + network.send for rank in range(world))
    return 2 * once * (world - 1) / world


def gather(world: int, network: Network) -> float:
    """Return what rank 0 needs to receive a small message of each other rank: they arrive one after the other."""
    return 0.0 if world == 1 else max(network.latency(0, world - 1), network.within) + (world - 1) * network.send


def agree_every(cost: float, step: float, share: float) -> int:
    """Return at how many steps one agreement of `cost` comes to at most `share` of steps of `step`."""
    return max(math.ceil(cost / (share * step)), 1)


def all_reduce(size: float, world: int, within: float, between: float, per_node: int = 8) -> float:
    """Return the seconds in which gradients of `size` bytes are summed, by bandwidth alone.

    First within each node, then between nodes, where each GPU of a node sends its part by a link of its own: the
    bandwidth `between` is that of one GPU.
    """
    local = min(world, per_node)
    nodes = -(-world // per_node)
    return 2 * (local - 1) / local * size / within + 2 * (nodes - 1) / nodes * size / local / between


# -- evaluation ---------------------------------------------------------------------------------------------


def evaluation_shards(images: int, batch_size: int, world: int) -> list[list[range]]:
    """Return which whole batches of `images` each rank evaluates: batch b goes to rank b modulo `world`, none padded.

    They are the batches that a single device has, so that each image meets the same kernel in the same company.
    """
    batches = [range(first, min(first + batch_size, images)) for first in range(0, images, batch_size)]
    return [batches[rank::world] for rank in range(world)]


def put_in_order(shards: Sequence[Sequence[range]]) -> list[int]:
    """Return the images as rank 0 has them after the gathering: one batch after the other, from the ranks in turn."""
    rounds = max((len(shard) for shard in shards), default=0)
    return [image for turn in range(rounds) for shard in shards if turn < len(shard) for image in shard[turn]]


def evaluation_speed(shards: Sequence[Sequence[range]]) -> float:
    """Return how many times as fast these shards are as one device, if a batch takes as long anywhere."""
    return sum(map(len, shards)) / max(map(len, shards))


# -- the journal --------------------------------------------------------------------------------------------


def rows_bytes(row_bytes: int, rows: int, seconds: float) -> float:
    """Return what the ranks' rows, `rows` each time, add to the journal of a run that has trained for `seconds`.

    They are journaled as rarely as what the machine does: the more rarely, the longer the run.
    """
    count, at = 0, 0.0
    while at <= seconds:
        count += 1
        at += journal_seconds(at)
    return count * row_bytes * rows


# -- memory -------------------------------------------------------------------------------------------------


def replica_bytes(optimizer: str, bf16: bool = False) -> float:
    """Return the bytes that each parameter takes on each rank under DistributedDataParallel, activations apart.

    Weight, gradient (which is a view of the bucket that is sent) and optimizer state in float32, and the copy in
    bfloat16 that autocast keeps of the weights.
    """
    return 4.0 + 4.0 + {"sgd": 0.0, "momentum": 4.0, "adamw": 8.0}[optimizer] + 2.0 * bf16


def most_parameters(memory: float, activations: float, each: float) -> float:
    """Return how many parameters of `each` bytes fit into `memory`, of which the share `activations` is kept free."""
    return memory * (1 - activations) / each


# -- a resume -----------------------------------------------------------------------------------------------


def read_by_all(size: float, world: int, disk: float, per_node: int = 8) -> float:
    """Return the seconds until each node has read `size` bytes from one shared disk, which serves them all."""
    return size * -(-world // per_node) / disk


def read_by_one(size: float, world: int, disk: float, network: Network, bandwidth: float) -> float:
    """Return the seconds in which rank 0 reads `size` bytes and broadcasts them by a binomial tree, whole."""
    rounds = math.ceil(math.log2(world)) if world > 1 else 0
    return size / disk + rounds * (size / bandwidth + network.between)
