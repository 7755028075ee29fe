"""Which features a training goes on from, as far as a checkpoint has to know it."""

from collections.abc import Callable, Mapping
from typing import Any

import torch

from finetui.engine.training.features.cache import FeatureCache


class FeatureUse:
    """The choice for the epoch in progress: `layers`, those of the first part, whose output is kept; empty: none.

    It is made anew at the start of each epoch, from the layers with which the epoch began, `entered`; until it is made,
    and what it takes is there, it is not `settled`. `given_up` are choices that could not be had. `cache` has the
    features, once it is complete, `filling` those that are being computed. `dropped` says why they went.
    `wanted` is the setting by which the training goes. With `one_thread` that is what computes the steps of a small
    head: several would wait for each other longer than it takes, and on a busy machine for very long.
    """

    def __init__(self, *, one_thread: bool) -> None:
        self._one_thread = one_thread
        self.layers: frozenset[str] = frozenset()
        self.entered: frozenset[str] = frozenset()
        self.given_up: set[frozenset[str]] = set()
        self.wanted = False
        self.settled = False
        self.cache: FeatureCache | None = None
        self.filling: FeatureCache | None = None
        self.dropped = ""

    def begin_epoch(self) -> None:
        """Have the choice made anew."""
        self.entered = self.layers
        self.settled = False

    def revise(self, fixed: frozenset[str], *, at_start: bool) -> bool:
        """Drop what is kept unless its layers are among those that stay, `fixed`; return whether features went.

        `at_start` of an epoch the choice is made anew.
        """
        before = self.cache
        if at_start:
            self.settled = False
        if not self.layers <= fixed:
            changed = sorted(self.layers - fixed)
            more = len(changed) - 1
            others = f" and {more} more layer{'s' * (more > 1)} are" if more else " is"
            self.drop(f"{changed[0]}{others} no longer wholly frozen")
        elif self.cache is not None and self.cache.cut.stale:
            self.drop("layers changed")
        return self.cache is not before

    def compute(self, step: Callable[[], None], batch_size: int) -> None:
        """Take `step`, of so many images, by as many threads as are good for it: by its size, and so by the command."""
        if not self._one_thread or self.cache is None or not self.cache.is_small(batch_size):
            step()
            return
        threads = torch.get_num_threads()
        torch.set_num_threads(1)
        try:
            step()
        finally:
            torch.set_num_threads(threads)

    def restart(self) -> None:
        """Get images anew, after somebody else has read them."""
        if self.filling is not None:
            self.filling.restart()

    def drop(self, reason: str) -> None:
        """Train without features for the rest of the epoch."""
        self.layers = frozenset()
        self.forget(reason)

    def forget(self, reason: str) -> None:
        """Give the features up, which are to be computed again."""
        if self.cache is not None:
            self.cache.close()
            self.cache, self.dropped = None, reason

    def state_dict(self) -> dict[str, Any]:
        """Return what a checkpoint must keep."""
        given_up = [sorted(layers) for layers in sorted(self.given_up, key=sorted)]
        chosen = {"layers": sorted(self.layers), "entered": sorted(self.entered), "given_up": given_up}
        return chosen | {"wanted": self.wanted}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Restore what `state_dict` returned; an empty one: no features."""
        self.layers = frozenset(state.get("layers", ()))
        self.entered = frozenset(state.get("entered", ()))
        self.given_up = {frozenset(layers) for layers in state.get("given_up", ())}
        self.wanted = state.get("wanted", self.wanted)
        self.settled = False
        if self.cache is not None and self.cache.cut.layers != self.layers:
            self.forget("the training is at another place")
