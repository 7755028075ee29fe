"""The freeze audit of anybody's own training loop: it looks on by hooks on the optimizers."""

from collections.abc import Callable, Collection, Sequence
from types import TracebackType
from typing import Any

import torch
from torch import Tensor, nn
from torch.compiler import disable
from torch.optim import Optimizer
from torch.optim.optimizer import register_optimizer_step_post_hook, register_optimizer_step_pre_hook

from finetui.engine.errors import BadInput, describe
from finetui.engine.protocol.audit import Audit
from finetui.engine.training.freeze_audit import STEPS, FreezeAudit, check_steps
from finetui.engine.training.freezing import Claims


class LoopAudit:
    """Audits the next `steps` steps that one of `optimizers()` takes, and then leaves nothing behind in the loop.

    A context manager; `result` is what was found, once all steps were seen or the block was left. Nothing raises in
    the loop: where something cannot be looked at, `result` raises `BadInput`.
    """

    def __init__(
        self,
        model: nn.Module,
        optimizers: Callable[[], Sequence[Optimizer]],
        steps: int = STEPS,
        claims: Callable[[], Claims] = Claims,
        *,
        looks_inside: bool = True,
    ) -> None:
        self._handles: list[Any] = []
        self._found: Audit | None = None
        self._problem = ""
        self._cleared = _Cleared(self)
        self._optimizers = optimizers
        with Guard(self):
            self._audit = FreezeAudit(model, optimizers, steps, claims, looks_inside=looks_inside)
            # Torch's hooks for all optimizers: a loop may replace the one that it began with.
            self._handles = [
                register_optimizer_step_pre_hook(self._before),
                register_optimizer_step_post_hook(self._after),
            ]

    @property
    def done(self) -> bool:
        """Whether there is a `result`, or a reason why there is none."""
        return self._found is not None or bool(self._problem)

    @property
    def taken(self) -> int:
        """The steps that were seen since it (last) began."""
        return self._audit.taken if not self._problem else 0

    @property
    def result(self) -> Audit:
        """What was found. Raises `BadInput` while the steps are not over, and where they could not be looked at."""
        if self._found is not None:
            return self._found
        raise BadInput(f"the network cannot be audited: {self._problem or 'its steps are not over'}")

    def finish(self) -> None:
        """Be done with the steps that there were, and take all hooks away. Not to be called by a hook."""
        self._conclude()
        for handle in self._handles:
            handle.remove()
        self._handles.clear()

    def _conclude(self) -> None:
        self._cleared.stop()
        if not self.done:
            with Guard(self):
                self._audit.not_cleared = self._cleared.never
                self._found = self._audit.result()

    def _is_meant(self, optimizer: Optimizer) -> bool:
        return not self.done and any(one is optimizer for one in self._optimizers())

    @disable  # type: ignore[untyped-decorator]  # a step that is compiled would be compiled with it
    def _before(self, optimizer: Optimizer, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        if self._is_meant(optimizer):
            with Guard(self):
                if has_closure(args, kwargs):
                    self._audit.see_rates(optimizer)
                else:
                    self._audit.before(optimizer)

    @disable  # type: ignore[untyped-decorator]  # as before
    def _after(self, optimizer: Optimizer, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        if not self._is_meant(optimizer):
            return
        with Guard(self):
            if has_closure(args, kwargs):  # the backward pass was within the step
                self._audit.before(optimizer, rates=False)
            self._audit.after(optimizer)
            self._cleared.stepped(optimizer)
            if self._audit.done:
                self._conclude()  # the hooks stay until `finish`: torch goes through them just now

    def give_up(self, problem: str) -> None:
        """Look no further: the loop must not be the worse for it."""
        self._problem = problem
        self._cleared.stop()

    def __enter__(self) -> "LoopAudit":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.finish()


def has_closure(args: tuple[Any, ...], kwargs: dict[str, Any]) -> bool:
    """Whether an optimizer's `step` was given a closure; `args` are what its hooks get, the first one itself."""
    return (args[1] if len(args) > 1 else kwargs.get("closure")) is not None


class Guard:
    """A block in which an error ends `audit`, and not the training that it looks at."""

    def __init__(self, audit: LoopAudit) -> None:
        self._audit = audit

    def __enter__(self) -> None:
        return None

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> bool:
        if isinstance(error, Exception):
            self._audit.give_up(describe(error))
            return True
        return False


class _Cleared:
    """Whether gradients are set back between one step of an optimizer and the next, seen at its smallest parameter.

    What a backward pass leaves there is its own gradient, or the sum with that of before. Two hooks tell: the one sees
    what is added, the other what comes of it. It is never set back if all passes from one step to the next add: of two
    networks that train against each other, the one's pass adds to gradients that the other sets back later.
    """

    def __init__(self, audit: LoopAudit) -> None:
        self.never = False
        self._audit = audit
        self._known = False
        self._adding = False  # whether each pass since the last step has added
        self._before: Tensor | None = None
        self._added: Tensor | None = None
        self._parameter: nn.Parameter | None = None
        self._owner: Optimizer | None = None
        self._handles: list[Any] = []

    @torch.no_grad()
    def stepped(self, optimizer: Optimizer) -> None:
        """Keep what a step has left."""
        if self._known:
            return
        if self._parameter is None:
            own = sorted((p for group in optimizer.param_groups for p in group["params"]), key=Tensor.numel)
            self._parameter, self._owner = next(filter(_can_be_asked, own), None), optimizer
            if self._parameter is None:
                return
            self._handles.append(self._parameter.register_hook(self._adds))
            self._handles.append(self._parameter.register_post_accumulate_grad_hook(self._has_added))
        if optimizer is self._owner:
            self.never = self._known = self._adding
            kept = self._parameter.grad
            self._adding = False
            self._before = None if kept is None else kept.clone()

    def _adds(self, gradient: Tensor) -> None:
        with Guard(self._audit):
            self._added = gradient.detach().clone() if self._before is not None else None

    @torch.no_grad()
    def _has_added(self, parameter: Tensor) -> None:
        before, added, now = self._before, self._added, parameter.grad
        self._added = None
        if before is None or added is None or now is None:
            return
        with Guard(self._audit):
            # Neither is so where the pass has begun to exchange gradients with other processes: that tells nothing.
            self._adding = bool(before.any()) and torch.equal(now, before + added)
            self._known = not self._adding and torch.equal(now, added)
            self._before = now.clone() if self._adding else None

    def stop(self) -> None:
        """Take the hooks away."""
        for handle in self._handles:
            handle.remove()
        self._handles.clear()
        self._before = self._added = self._parameter = None


def _can_be_asked(parameter: Tensor) -> bool:
    gradient = parameter.grad
    known = gradient is not None and not gradient.is_sparse and bool(gradient.any())
    return known and parameter.requires_grad and parameter.is_leaf


def audit(
    model: nn.Module, optimizer: Optimizer | Sequence[Optimizer], *, steps: int = STEPS, frozen: Collection[str] = ()
) -> LoopAudit:
    """Return what audits the next `steps` steps of a training loop: which tensors move, train, or claim to.

        with finetui.audit(model, optimizer) as audit:
            train_one_epoch(model, optimizer, loader)
        print(audit.result)

    `frozen` names parameters or modules that are meant to be frozen, besides what has no `requires_grad`. The block may
    end before the steps do, and may go on: after them nothing is looked at any more. Raises `BadInput` for a name in
    `frozen` that is neither a parameter's nor a module's, and for a number of steps that makes no sense.
    """
    check_steps(steps)
    known = {name for name, _ in model.named_modules(remove_duplicate=False)}
    known |= {name for name, _ in model.named_parameters(remove_duplicate=False)}
    unknown = sorted(set(frozen) - known)
    if unknown:
        raise BadInput(f"frozen: the network has no module or parameter {unknown[0]!r}")
    optimizers = [optimizer] if isinstance(optimizer, Optimizer) else list(optimizer)
    claims = Claims(frozenset(frozen))
    return LoopAudit(model, lambda: optimizers, steps, lambda: claims)
