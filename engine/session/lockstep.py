"""What only rank 0 knows, a person's commands and the clock, at each step boundary made known to all ranks."""

from collections.abc import Callable, Mapping
from typing import Any, NamedTuple, TypeVar

import msgspec
import torch

from finetui.engine.distributed.ranks import Ranks
from finetui.engine.distributed.synced_norm import synchronise
from finetui.engine.errors import BadInput, FinetuiError, describe
from finetui.engine.models.device import resolve, rng_states, set_rng_states
from finetui.engine.protocol.commands import AnyCommand
from finetui.engine.protocol.config import TrainingConfig
from finetui.engine.setup.prepared import Prepared

_T = TypeVar("_T")
_encoder = msgspec.msgpack.Encoder()
_decoder: msgspec.msgpack.Decoder[AnyCommand] = msgspec.msgpack.Decoder(AnyCommand)


class Turn(NamedTuple):
    """What all ranks do next: obey `command`, or take a step, or wait.

    `point_due` and `save_due` say what follows after the step, `stays` whether a session that has nothing to do goes
    on waiting.
    """

    command: AnyCommand | None = None
    point_due: bool = False
    save_due: bool = False
    stays: bool = False


def agreed(ranks: Ranks, decide: Callable[[], Turn]) -> Turn:
    """Return the turn that `decide` finds on rank 0, on all ranks: one message of a few bytes, by the CPU."""
    turn = decide() if ranks.is_first else Turn()
    if ranks.world == 1:
        return turn
    flags = turn.point_due | turn.save_due << 1 | turn.stays << 2
    flags, note = ranks.send_note(flags, _encoder.encode(turn.command) if turn.command is not None else b"")
    command = turn.command if ranks.is_first or not note else _decoder.decode(note)
    return Turn(command, bool(flags & 1), bool(flags & 2), bool(flags & 4))


def in_turn(ranks: Ranks, work: Callable[[], _T]) -> _T:
    """Return what `work` returns, which tells the others nothing; one rank of each node does it first.

    So what that one downloads, or decodes, is there for the others. Raises `FinetuiError` on all where it fails on one.
    """
    done: list[_T] = []
    for first in (True, False):
        problem: FinetuiError | None = None
        own: Exception | None = None
        if first == (ranks.local_rank == 0):
            try:
                done.append(work())
            except FinetuiError as error:
                problem = own = error
            except Exception as error:  # noqa: BLE001  # it is raised again below, once the others know
                problem, own = FinetuiError(describe(error)), error
        ranks.wait_for_all()
        problems = [found for found in ranks.gather(problem) if found is not None]
        if own is not None:
            raise own
        if problems:
            raise problems[0]
    return done[0]


def own_device(training: TrainingConfig, ranks: Ranks) -> torch.device:
    """Return the device that this rank trains on, which becomes the current one.

    Raises `BadInput` where several cannot train so.
    """
    name, device = training.device, resolve(training.device)
    if ranks.world > 1 and training.compile != "off":
        raise BadInput(
            f"training.compile (--compile): {ranks.world} processes train together without it; use --compile off"
        )
    if ranks.world == 1 or device.type != "cuda":
        return device
    if device.index is not None:
        raise BadInput(
            f"training.device (--device): {ranks.world} processes cannot all train on {name}; give cuda, and each "
            "takes its own"
        )
    there = torch.cuda.device_count()
    if ranks.local_rank >= there:
        raise BadInput(
            f"process {ranks.local_rank} of this node has no GPU of its own: torch sees {there}; start {there} per node"
        )
    torch.cuda.set_device(ranks.local_rank)
    return torch.device("cuda", ranks.local_rank)


def begin_alike(ranks: Ranks, model: torch.nn.Module, training: TrainingConfig) -> None:
    """Give `model` the weights and buffers of rank 0, and every other rank random numbers of its own."""
    if ranks.world == 1:
        return
    for tensor in model.state_dict().values():
        if isinstance(tensor, torch.Tensor):
            ranks.spread(tensor)
    if training.sync_bn:
        synchronise(model)
    draw_apart(ranks, training.seed, 0)


def draw_apart(ranks: Ranks, seed: int, step: int) -> None:
    """Let each rank but the first draw numbers of its own, for dropout say, from `step` on."""
    if not ranks.is_first:
        torch.manual_seed((seed * 1_000_003 + ranks.rank * 7_368_787 + step) % 2**63)


def own_states(ranks: Ranks, prepared: Prepared) -> dict[str, Any]:
    """Return what each rank has of its own, for a checkpoint: its random generators, and its running statistics."""
    if ranks.world == 1:
        return {}
    buffers = {name: buffer.cpu() for name, buffer in prepared.model.named_buffers()}
    found = ranks.gather_first({"rng": rng_states(prepared.device), "buffers": buffers})
    return {"world": ranks.world, "ranks": found or []}


@torch.no_grad()
def take_own_state(ranks: Ranks, prepared: Prepared, training: Mapping[str, Any]) -> None:
    """Take over what `own_states` returned; of another number of ranks each has the mean, and draws anew."""
    states = training.get("ranks", [])
    if ranks.world == 1:
        return
    if len(states) != ranks.world:
        draw_apart(ranks, prepared.config.training.seed, training["step"])
        return
    own = states[ranks.rank]
    for name, buffer in prepared.model.named_buffers():
        buffer.copy_(own["buffers"][name])
    set_rng_states(prepared.device, own["rng"])
