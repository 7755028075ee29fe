"""The freeze audit: over some steps, what moves of a network, what is frozen, and whether that is what it claims."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.modules.dropout import _DropoutNd
from torch.nn.parameter import is_lazy
from torch.optim import Optimizer

from finetui.engine.protocol.audit import Audit
from finetui.engine.protocol.config_checks import require
from finetui.engine.training.audit_findings import Observed, Whole, audit_of
from finetui.engine.training.fingerprints import fingerprint, read
from finetui.engine.training.freezing import Claims

STEPS = 20
_MOST_STEPS = 100_000
_PATIENCE = 8  # times the steps asked for: until then the layers are waited for to stay as they are
_DROPS = ("DropPath", "StochasticDepth")  # of timm and torchvision, which are no dropout of torch's


def check_steps(steps: int) -> None:
    """Raise `BadInput` unless an audit may be of so many steps."""
    require(1 <= steps <= _MOST_STEPS, "steps (--steps)", f"a whole number from 1 to {_MOST_STEPS:,}", steps)


class FreezeAudit:
    """Watches `steps` steps of what trains `model`; `optimizers()` and `claims()` are asked at each of them.

    Call `before` between the backward pass and the optimizer's step, `after` after that, until it is `done`. Weights
    are compared by `fingerprint`, at both ends of these steps only: what one costs in between is to look at the
    gradients, and no step waits for the device. Where layers are frozen or thawed on the way, or another optimizer
    takes over, it begins anew.

    What claims to be frozen has no `requires_grad`, or is frozen by `claims()`. A module is expected to be in
    evaluation mode if these say so or, where they say nothing of modules, if all parameters in it (of one without
    parameters: around it) are frozen. With `looks_inside`, the modules of parameters without gradients are asked, by a
    hook, whether they were called; a compiled network would not tell.
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
        self._model = model
        self._optimizers = optimizers
        self._claims = claims
        self._looks_inside = looks_inside and not hasattr(model, "_orig_mod")
        self.steps = steps
        self._seen = 0  # updates, also those before it began anew
        self.not_cleared = False
        self._calls = _Calls()
        self.restart()

    @torch.no_grad()
    def restart(self) -> None:
        """Count from here on: something has changed that is no step."""
        self._calls.stop()
        self._calls = _Calls()
        self._counts: dict[int, int] = {}  # steps, by optimizer
        self._optimizers_now = tuple(self._optimizers())
        self._claims_now = self._claims()
        self._tensors = _tensors(self._model)
        self._layout = self._signature()
        self._prints = {name: fingerprint(found.tensor) for name, found in self._tensors.items()}
        self._steps_of: dict[int, _Steps] = {id(found.tensor): _Steps() for found in self._parameters()}
        self._in_train_mode: set[str] = set()

    @property
    def taken(self) -> int:
        """The steps that were seen since it began (anew): of several optimizers, those of the one with the most."""
        return max(self._counts.values(), default=0)

    @property
    def done(self) -> bool:
        """Whether enough was seen for `result`."""
        return self.taken >= self.steps or (self.taken > 0 and self._seen >= _PATIENCE * self.steps)

    def _parameters(self) -> Iterator["_Found"]:
        return (found for found in self._tensors.values() if not found.buffer)

    def _signature(self) -> object:
        """Return what has to stay as it is for steps to be comparable."""
        held = frozenset(id(p) for optimizer in self._optimizers_now for p, _ in _held(optimizer))
        own = tuple((id(p), p.requires_grad) for p in self._model.parameters() if not is_lazy(p))
        return self._optimizers_now, held, own, self._claims_now

    @torch.no_grad()
    def before(self, optimizer: Optimizer | None = None, *, rates: bool = True) -> None:
        """Look at the gradients of a step, before `optimizer` takes it; None: the only one there is.

        Without `rates` these were seen already.
        """
        self._optimizers_now, self._claims_now = tuple(self._optimizers()), self._claims()
        if self._signature() != self._layout:
            self.restart()
        if rates:
            self.see_rates(optimizer)
        groups = {id(p): (owner, group) for owner in self._optimizers_now for p, group in _held(owner)}
        for found in self._parameters():
            owner, group = groups.get(id(found.tensor), (None, None))
            if owner is not None and optimizer is not None and owner is not optimizer:
                continue
            steps = self._steps_of[id(found.tensor)]
            if found.tensor.grad is not None:
                steps.add(found.tensor.grad)
            elif group is not None and found.tensor.requires_grad and self._looks_inside and not steps.gradients:
                self._calls.listen(self._model, found.module)
        self._in_train_mode |= {
            name for name, module in self._model.named_modules() if module.training and _drops(module)
        }

    def see_rates(self, optimizer: Optimizer | None = None) -> None:
        """Note the learning rates that `optimizer`, or each there is, has for its step."""
        for one in self._optimizers_now if optimizer is None else (optimizer,):
            for parameter, group in _held(one):
                steps = self._steps_of.get(id(parameter))
                if steps is not None and "lr" in group:
                    steps.rate = max(steps.rate or 0.0, float(group["lr"]))

    def after(self, optimizer: Optimizer | None = None) -> None:
        """Count a step that was taken."""
        counted = self._optimizers_now[0] if optimizer is None else optimizer
        self._counts[id(counted)] = self._counts.get(id(counted), 0) + 1
        self._seen += 1

    def stop(self) -> None:
        """Leave nothing behind in the model."""
        self._calls.stop()

    @torch.no_grad()
    def result(self) -> Audit:
        """Return what was found. This waits for the device."""
        self.stop()
        claimed = _Claimed(self._model, self._tensors, self._claims_now)
        dropping = sorted(name for name in self._in_train_mode if claimed.module(name))
        whole = Whole(self.taken, self._optimizers_now, self.not_cleared, tuple(dropping))
        return audit_of(self._observed(claimed), whole)

    def _observed(self, claimed: "_Claimed") -> list[Observed]:
        # A buffer may have been replaced, which is no fault; a parameter is the one that was there.
        now = _tensors(self._model)
        tensors = {
            name: now[name].tensor if found.buffer and name in now else found.tensor
            for name, found in self._tensors.items()
        }
        before = read([self._prints[name] for name in tensors])
        after = read([fingerprint(tensor) for tensor in tensors.values()])
        finite = read([_all_finite(tensor) for tensor in tensors.values()])
        largest = self._largest()
        holders: dict[int, list[tuple[Optimizer, dict[str, Any]]]] = {}
        # One that steps within another has its groups: it alone may be the one that steps.
        for optimizer in sorted(self._optimizers_now, key=lambda one: -self._counts.get(id(one), 0)):
            for parameter, group in _held(optimizer):
                there = holders.setdefault(id(parameter), [])
                if all(group is not own for _, own in there):
                    there.append((optimizer, group))
        observed = []
        for place, (name, tensor) in enumerate(tensors.items()):
            found = self._tensors[name]
            steps = self._steps_of.get(id(tensor), _Steps())
            one = Observed(
                name=name,
                module=found.module,
                tensor=tensor,
                buffer=found.buffer,
                shared=tuple(found.shared),
                frozen=claimed.tensor(name, found),
                moved=before[place] != after[place],
                finite=bool(finite[place]),
                steps=max((self._counts.get(id(owner), 0) for owner, _ in holders.get(id(tensor), ())), default=0),
                gradients=steps.gradients,
                largest=largest.get(id(tensor)),
                rate=steps.rate,
                optimizers=holders.get(id(tensor), ()),
                called=self._calls.of(found.module),
            )
            observed.append(one)
        return observed

    def _largest(self) -> dict[int, float]:
        """Return the largest magnitude of the gradients of each parameter that had one, by its `id`."""
        found = {key: steps.largest for key, steps in self._steps_of.items() if steps.largest is not None}
        return dict(zip(found, read(list(found.values())), strict=True))


@dataclass
class _Found:
    """A parameter or buffer of `module`, with the other names that the same tensor has."""

    tensor: Tensor
    module: str
    buffer: bool
    shared: list[str] = field(default_factory=list)


@dataclass
class _Steps:
    """What the steps showed of one parameter: how many gradients, their largest magnitude, the highest rate."""

    gradients: int = 0
    largest: Tensor | None = None
    rate: float | None = None

    def add(self, gradient: Tensor) -> None:
        """Count a step with this gradient."""
        self.gradients += 1
        values = gradient.coalesce().values() if gradient.is_sparse else gradient
        if values.numel():
            # Much faster than a norm on the CPU, and NaN where one of them is.
            low, high = torch.aminmax(torch.view_as_real(values) if values.is_complex() else values)
            largest = torch.maximum(high, -low)
            self.largest = largest if self.largest is None else torch.maximum(self.largest, largest)


class _Calls:
    """Whether modules are called: by a hook on those that it is asked to `listen` to."""

    def __init__(self) -> None:
        self._called: dict[str, bool | None] = {}
        self._handles: list[Any] = []

    def listen(self, model: nn.Module, path: str) -> None:
        """Find out from the next call of the model on whether the module at `path` is called."""
        if path in self._called:
            self._called[path] = bool(self._called[path])  # it had a step to be called in
        elif path:  # the model itself is always called
            self._called[path] = None
            self._handles.append(model.get_submodule(path).register_forward_pre_hook(lambda *_: self._note(path)))

    def _note(self, path: str) -> None:
        self._called[path] = True

    def of(self, path: str) -> bool | None:
        """Return whether the module at `path` was called; None where nobody knows."""
        return self._called.get(path)

    def stop(self) -> None:
        """Take the hooks away."""
        for handle in self._handles:
            handle.remove()
        self._handles.clear()


class _Claimed:
    """What is said to be frozen: by `claims`, by `requires_grad`, and of modules by what is in or around them."""

    def __init__(self, model: nn.Module, tensors: Mapping[str, _Found], claims: Claims) -> None:
        self._names = claims.frozen
        self._frozen = {
            name
            for name, found in tensors.items()
            if not found.buffer
            and _has_gradients(found.tensor)
            and (not found.tensor.requires_grad or any(map(self._is_named, (name, *found.shared))))
        }
        of_module: dict[str, list[bool]] = {}
        for name, found in tensors.items():
            if not found.buffer and _has_gradients(found.tensor):
                for path in _upwards(found.module):
                    of_module.setdefault(path, []).append(name in self._frozen)
        self._whole = {path: all(frozen) for path, frozen in of_module.items()}
        self._evaluating, self._training = claims.evaluating, claims.training

    def _is_named(self, name: str) -> bool:
        return not self._names.isdisjoint(_upwards(name))

    def tensor(self, name: str, found: _Found) -> bool:
        """Whether the parameter or buffer claims to be frozen."""
        return self.module(found.module) or self._is_named(name) if found.buffer else name in self._frozen

    def module(self, path: str) -> bool:
        """Whether the module claims to be frozen, and so to be in evaluation mode."""
        if self._evaluating is not None:
            return path in self._evaluating
        if path in self._training:
            return False
        return self._is_named(path) or next(
            (self._whole[part] for part in _upwards(path) if part in self._whole), False
        )


def _upwards(path: str) -> Iterator[str]:
    """Yield a path and those around it, up to the model itself: a.b.c, a.b, a, and the empty one."""
    while path:
        yield path
        path = path.rpartition(".")[0]
    yield ""


def _held(optimizer: Optimizer) -> Iterator[tuple[Tensor, dict[str, Any]]]:
    """Yield the tensors of an optimizer, each with the group that it is in."""
    return ((parameter, group) for group in optimizer.param_groups for parameter in group["params"])


def _has_gradients(tensor: Tensor) -> bool:
    return tensor.is_floating_point() or tensor.is_complex()


def _all_finite(tensor: Tensor) -> Tensor:
    return tensor.isfinite().all() if _has_gradients(tensor) else torch.ones((), dtype=torch.bool, device=tensor.device)


def _drops(module: nn.Module) -> bool:
    """Whether `module` sets a random part of what it is given to zero, while it is in training mode."""
    if isinstance(module, _DropoutNd) or type(module).__name__ in _DROPS:
        return bool(getattr(module, "p", getattr(module, "drop_prob", 0)))
    return False


def _tensors(model: nn.Module) -> dict[str, _Found]:
    """Return parameters and buffers by their full names; a tensor with several has the first, and knows the others."""
    found: dict[str, _Found] = {}
    first: dict[int, str] = {}
    for path, module in model.named_modules(remove_duplicate=False):
        for buffer, own in ((False, module._parameters), (True, module._buffers)):
            for key, tensor in own.items():
                if tensor is None or is_lazy(tensor):
                    continue
                name = f"{path}.{key}" if path else key
                known = first.setdefault(id(tensor), name)
                if known == name:
                    found[name] = _Found(tensor, path, buffer)
                else:
                    found[known].shared.append(name)
    return found
