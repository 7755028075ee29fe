"""The optimizers that train a watched network: found when they step, their rates multiplied by what a person wants."""

import weakref
from collections.abc import Callable, Sequence
from typing import Any

from torch import Tensor, nn
from torch.compiler import disable, is_compiling
from torch.optim import Optimizer
from torch.optim.optimizer import register_optimizer_step_post_hook, register_optimizer_step_pre_hook

from finetui.engine.models import ModuleGroup
from finetui.engine.training.audit_hooks import has_closure
from finetui.engine.watching.loop_meter import rounded


class Optimizers:
    """The optimizers of `model`'s parameters: the `given` ones, and each other that takes a step while this is open.

    During a step the learning rates are those of the optimizer times `factor`; whoever reads or sets them at any other
    time, a scheduler say, sees its own. `before_step` is called first, `before_update` between a backward pass and the
    update, and `after_update` after that; where the backward pass is a closure that the optimizer calls,
    `before_update` comes when the update is done, and the gradients are still there. None of them is called but while
    `looks` is True. What goes wrong is given to `failed`, and never reaches the loop.

    Whatever is not called for must cost a step next to nothing: the hooks of most steps end in their first line.
    """

    def __init__(
        self,
        model: nn.Module | None,
        given: Sequence[Optimizer],
        failed: Callable[[Exception], None],
        before_step: Callable[[], None] = lambda: None,
        before_update: Callable[[], None] = lambda: None,
        after_update: Callable[[], None] = lambda: None,
    ) -> None:
        self.factor = 1.0
        self.looks = False
        self.in_step = False  # of an optimizer that is not passed over; it stays so where the step raises
        self._model = model
        self._known = [weakref.ref(optimizer) for optimizer in given]
        self._last: Callable[[], Optimizer | None] = self._known[-1] if self._known else _none
        self._strangers: weakref.WeakSet[Optimizer] = weakref.WeakSet()
        self._failed = failed
        self._before_step, self._before_update, self._after_update = before_step, before_update, after_update
        self._own: list[tuple[dict[str, Any], float | Tensor]] = []  # groups in an update, and their own rates
        self._handles: list[Any] = []

    def open(self) -> None:
        """Take part in every step from here on."""
        # Torch's hooks for all optimizers: a loop may replace the one that it began with.
        self._handles = [
            register_optimizer_step_pre_hook(self._before),
            register_optimizer_step_post_hook(self._after),
        ]

    def close(self) -> None:
        """Take part no more; the rates are the optimizers' own."""
        for handle in self._handles:
            handle.remove()
        self._handles = []
        self.restore()

    @property
    def there(self) -> list[Optimizer]:
        """The optimizers that there are now; the one that stepped last comes last."""
        return [optimizer for one in self._known if (optimizer := one()) is not None]

    @property
    def groups(self) -> list[dict[str, Any]]:
        """The parameter groups of all of them."""
        return [group for optimizer in self.there for group in optimizer.param_groups]

    def rate(self) -> float | None:
        """Return the highest learning rate that the loop has set, the factor left out; None without any optimizer."""
        return max((float(group["lr"]) for group in self.groups if "lr" in group), default=None)

    def rates(self) -> dict[int, float]:
        """Return the rate of each parameter that some optimizer has, by its `id`, the factor left out."""
        return {id(p): float(group.get("lr", 0.0)) for group in self.groups for p in group["params"]}

    def rate_factors(self, layers: Sequence[ModuleGroup]) -> tuple[float, ...]:
        """Return the rate of each group of `layers` over the highest one, where they differ."""
        highest = self.rate()
        if not highest or len({float(group.get("lr", 0.0)) for group in self.groups if group["params"]}) < 2:
            return ()
        rates, found = self.rates(), []
        for group in layers:
            own = [rates[id(p)] for p in group.parameters.values() if id(p) in rates]
            found.append(max(own, default=0.0) / highest)
        return rounded(found)

    def restore(self) -> None:
        """Put the rates back that an update was to use which has raised."""
        for group, own in self._own:
            group["lr"] = own
        self._own = []
        self.in_step = False

    def _before(self, optimizer: Optimizer, args: Any, kwargs: Any) -> None:
        if is_compiling():
            _eagerly(self._before, optimizer, args, kwargs)
            return
        if self._last() is optimizer and not self.looks and self.factor == 1.0:
            return
        try:
            if self._is_ours(optimizer):
                self._begin_step(optimizer, has_closure(args, kwargs))
        except Exception as error:  # noqa: BLE001  # this is called by the loop's own code, which must not see it
            self._failed(error)

    def _begin_step(self, optimizer: Optimizer, closure: bool) -> None:
        self.restore()
        self.in_step = True
        if self.looks:
            self._before_step()
            if not closure:
                self._before_update()
        if self.factor != 1.0:
            self._own = [(group, group["lr"]) for group in optimizer.param_groups if "lr" in group]
            for group, own in self._own:
                group["lr"] = own * self.factor

    def _after(self, optimizer: Optimizer, args: Any, kwargs: Any) -> None:
        if is_compiling():
            _eagerly(self._after, optimizer, args, kwargs)
            return
        if not self.in_step:
            return
        try:
            if self._is_ours(optimizer):
                self.restore()
                if self.looks:
                    self._end_step(has_closure(args, kwargs))
        except Exception as error:  # noqa: BLE001  # as before
            self._failed(error)

    def _end_step(self, closure: bool) -> None:
        if closure:
            self._before_update()
        self._after_update()

    def _is_ours(self, optimizer: Optimizer) -> bool:
        for one in self._known:
            if one() is optimizer:
                self._last = one
                return True
        if optimizer in self._strangers:
            return False
        trains = {id(p) for group in optimizer.param_groups for p in group["params"]}
        if self._model is None or trains.isdisjoint(map(id, self._model.parameters())):
            self._strangers.add(optimizer)
            return False
        # What trains the same parameters takes the place of what did.
        self._known = [
            one
            for one in self._known
            if (known := one()) is not None
            and not trains & {id(p) for group in known.param_groups for p in group["params"]}
        ]
        self._last = weakref.ref(optimizer)
        self._known.append(self._last)
        return True


@disable  # type: ignore[untyped-decorator]
def _eagerly(hook: Callable[..., None], optimizer: Optimizer, args: Any, kwargs: Any) -> None:
    """Call a `hook` of a step that is compiled, which would be compiled with it."""
    hook(optimizer, args, kwargs)


def _none() -> None:
    return None
