"""What is wrong with a tensor that was watched for some steps, as a sentence on why."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.optim import Optimizer

from finetui.engine.protocol.audit import Audit, AuditedTensor, Finding, GradientKind
from finetui.engine.text import clean

_STATISTICS = ("running_mean", "running_var", "num_batches_tracked")
_NOTHING = 1e-5  # times the largest gradient: what rounding leaves of one that is zero
_Judged = tuple[str, bool]  # the reason, and whether it is wrong


@dataclass(frozen=True)
class Observed:
    """A parameter or buffer over the steps of an audit, with the `tensor` as it is after them.

    `gradients` counts those of the `steps` of its optimizer in which there was a gradient, `largest` is its largest
    magnitude, `rate` the highest learning rate. `optimizers` are those that have it, each with the group that it is in.
    `called`: whether its module was called, where anybody asked.
    """

    name: str
    module: str
    tensor: Tensor
    buffer: bool
    shared: tuple[str, ...]
    frozen: bool
    moved: bool
    finite: bool
    steps: int
    gradients: int
    largest: float | None
    rate: float | None
    optimizers: Sequence[tuple[Optimizer, Mapping[str, Any]]]
    called: bool | None

    @property
    def trains(self) -> bool:
        """Whether it claims to train."""
        floats = self.tensor.is_floating_point() or self.tensor.is_complex()
        return not self.buffer and not self.frozen and floats

    @property
    def optimizer(self) -> str:
        """The class of the optimizer that has it; empty where none has."""
        return type(self.optimizers[0][0]).__name__ if self.optimizers else ""

    @property
    def group(self) -> Mapping[str, Any]:
        """The group that it is in; empty where it is in none."""
        return self.optimizers[0][1] if self.optimizers else {}

    @property
    def moments(self) -> dict[str, Tensor]:
        """What the optimizer keeps for each of its elements, by name."""
        state = self.optimizers[0][0].state.get(self.tensor, {}) if self.optimizers else {}
        kept = {str(key): value for key, value in state.items() if isinstance(value, Tensor)}
        return {name: value for name, value in kept.items() if value.shape == self.tensor.shape}

    @property
    def gradient(self) -> GradientKind:
        """What the gradients of all steps were."""
        if self.buffer:
            return ""
        if self.largest is None:
            return "none"
        finite = self.largest < float("inf")  # False for NaN as well
        return "not finite" if not finite else "some" if self.largest else "zero"

    def row(self) -> AuditedTensor:
        """Return it as it is shown."""
        group, largest = self.group, self.largest
        momentum = group.get("betas", group.get("momentum", ()))
        return AuditedTensor(
            name=clean(self.name, 1000),
            module=clean(self.module, 1000),
            buffer=self.buffer,
            shape=tuple(self.tensor.shape),
            dtype=str(self.tensor.dtype).removeprefix("torch."),
            frozen=self.frozen,
            moved=self.moved,
            gradient=self.gradient,
            largest=largest,
            optimizer=clean(self.optimizer, 100),
            rate=self.rate,
            momentum=tuple(map(float, momentum)) if isinstance(momentum, (tuple, list)) else (float(momentum),),
            moments=tuple(self.moments),
            weight_decay=float(group.get("weight_decay", 0.0)),
            shared=tuple(clean(name, 1000) for name in self.shared),
        )


@dataclass(frozen=True)
class Whole:
    """What was seen of the training as a whole: the `dropping` modules are frozen, and drop values at random."""

    steps: int
    optimizers: Sequence[Optimizer]
    not_cleared: bool
    dropping: Sequence[str]


def audit_of(observed: Sequence[Observed], whole: Whole) -> Audit:
    """Return the audit: all tensors, and what is to be said of them. This waits for the device."""
    own = {id(seen.tensor) for seen in observed}
    held = [p for optimizer in whole.optimizers for group in optimizer.param_groups for p in group["params"]]
    strays = {id(p): p for p in held if id(p) not in own}
    known = [seen.largest for seen in observed if seen.gradient == "some" and seen.largest is not None]
    findings = list(_of_training(whole, list(strays.values())))
    for path in whole.dropping:
        reason = "frozen, but in train mode: it drops random values at each step; call eval() on it after every train()"
        findings.append(Finding(name=clean(path, 1000), reason=reason))
    for seen in observed:
        judged = _of_buffer(seen) if seen.buffer else _of_parameter(seen, strays, observed, max(known, default=0.0))
        findings += [Finding(name=clean(seen.name, 1000), reason=reason, wrong=wrong) for reason, wrong in judged]
    return Audit(steps=whole.steps, tensors=tuple(seen.row() for seen in observed), findings=tuple(findings))


def _of_training(whole: Whole, strays: Sequence[Tensor]) -> Iterator[Finding]:
    if not whole.steps:
        yield Finding(name="", reason="no optimizer has taken a step")
    if whole.not_cleared:
        reason = "gradients are not cleared between steps, so they add up; call zero_grad()"
        yield Finding(name="", reason=reason)
    if strays:
        what = "1 tensor that is" if len(strays) == 1 else f"{len(strays):,} tensors that are"
        yield Finding(name="", reason=f"the optimizer has {what} not in the network", wrong=False)


def _of_buffer(seen: Observed) -> Iterator[_Judged]:
    if not seen.finite:
        yield "it holds NaN or infinity", True
    if seen.frozen and seen.moved:
        if seen.name.rpartition(".")[2] in _STATISTICS:
            yield (
                "its layer is frozen, but in train mode: its statistics drift; call eval() on it after every train()",
                True,
            )
        else:
            yield "its layer is frozen, but it changes: something writes to this buffer", True


def _of_parameter(
    seen: Observed, strays: Mapping[int, Tensor], observed: Sequence[Observed], largest: float
) -> Iterator[_Judged]:
    if not seen.finite:
        yield "it holds NaN or infinity", True
    if len(seen.optimizers) > 1:
        yield f"{len(seen.optimizers)} optimizer groups have it: it is updated more than once a step", False
    if seen.frozen:
        if seen.moved:
            yield _why_frozen_moved(seen, observed), True
    elif seen.trains:
        yield from _why_not_trained(seen, strays, largest)


def _why_frozen_moved(seen: Observed, observed: Sequence[Observed]) -> str:
    optimizer = seen.optimizer
    if not optimizer or not seen.gradients:
        twin = next((other.name for other in observed if other.trains and _share_memory(seen, other)), "")
        if twin:
            return f"frozen, but it shares its memory with {twin}, which trains"
        return "frozen and without a gradient, but it moves: something other than an optimizer writes to it"
    if seen.gradient == "zero":
        causes = ["momentum"] if any(bool(kept.any()) for kept in seen.moments.values()) else []
        causes += ["weight decay"] if seen.group.get("weight_decay") else []
        by = " and ".join(causes) or optimizer
        return f"frozen, but moved by {by}: its gradient is zero and not None; set its grad to None"
    if seen.tensor.requires_grad:
        also = f"; it is the same tensor as {', '.join(seen.shared)}" if seen.shared else ""
        return f"marked as frozen, but it requires a gradient and is in the optimizer, so {optimizer} moves it{also}"
    return f"frozen, but {optimizer} keeps applying its old gradient; set its grad to None"


def _share_memory(one: Observed, other: Observed) -> bool:
    if one is other or other.buffer or one.tensor.device != other.tensor.device:
        return False
    return one.tensor.untyped_storage().data_ptr() == other.tensor.untyped_storage().data_ptr()


def _why_not_trained(seen: Observed, strays: Mapping[int, Tensor], largest: float) -> Iterator[_Judged]:
    in_steps = f"in all {seen.steps:,} steps" if seen.steps > 1 else "in this step"
    if not seen.optimizers:
        if any(_may_be(stray, seen) for stray in strays.values()):
            yield "the optimizer has an older tensor that this one replaced; create the optimizer again", True
        else:
            yield "requires a gradient, but no optimizer has it", True
    elif not seen.steps:
        yield "its optimizer takes no steps", True
    elif not seen.gradients:
        yield f"in the optimizer, receives no gradient{_whence(seen)}", True
    elif seen.gradient == "not finite":
        yield "its gradient is NaN or infinite", True
    elif seen.gradient == "zero":
        moved = "; only what the optimizer adds (weight decay, momentum) moves it" if seen.moved else ""
        yield (
            f"its gradient is exactly zero {in_steps}: nothing flows back to it from later layers{moved}",
            seen.steps > 1,
        )
    elif seen.rate == 0:
        yield "its learning rate is 0", True
    elif not seen.moved:
        yield _why_still(seen, largest)


def _may_be(stray: Tensor, seen: Observed) -> bool:
    """Whether the tensor of an optimizer may be one that was there before `seen`."""
    return stray.shape == seen.tensor.shape


def _whence(seen: Observed) -> str:
    if seen.called is None:
        return ""
    if seen.called:
        return ": the loss does not depend on it, though forward calls its module (detach, no_grad?)"
    return f": forward never calls {seen.module}"


def _why_still(seen: Observed, of_all: float) -> _Judged:
    """Return why a parameter with a gradient and a learning rate has not moved; `of_all`: the largest gradient."""
    values = seen.tensor.detach()
    dtype = str(values.dtype).removeprefix("torch.")
    largest, rate = seen.largest or 0.0, seen.rate or 0.0
    update = rate if "betas" in seen.group else rate * largest  # Adam's do not depend on the gradient's size
    if update > torch.finfo(values.dtype).eps * float(values.abs().max()):
        return "has a gradient and a learning rate, but does not move: steps are skipped, or it is reset", True
    if largest < _NOTHING * of_all:
        return "does not move: its gradient is almost zero, as for a bias before a normalization", False
    # With 16 bits that is a trap; with 32 it happens where a schedule ends near 0.
    reason = f"does not move: updates of about {update:.0e} are too small for {dtype} next to its values"
    return reason, values.element_size() <= 2
