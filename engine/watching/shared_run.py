"""A watched run of one process or several: the first one records and is steered, and the others do as it does."""

import functools
import warnings
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from enum import IntEnum
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import msgspec
import torch
import torch.distributed as dist
from torch import nn
from torch.optim import Optimizer

from finetui.engine.distributed.rank_info import RankInfo
from finetui.engine.distributed.ranks import SINGLE, Ranks
from finetui.engine.errors import BadInput, describe
from finetui.engine.models import module_groups
from finetui.engine.watching.layers import WatchedLayers
from finetui.engine.watching.loop import Loop
from finetui.engine.watching.optimizers import Optimizers
from finetui.engine.watching.parallel import set_up_again, why_no_freezing, wrapper_in
from finetui.engine.watching.run_description import bare
from finetui.engine.watching.saving import undisturbed
from finetui.engine.watching.watched_run import WatchedRun, _harmless

_A_LONG_PAUSE = 30 * 24 * 3600.0  # seconds that the others wait for a first process that is paused


class Settings(msgspec.Struct, frozen=True):
    """What a person has set, as all processes must have it: the factor of the learning rate, and the frozen layers."""

    factor: float = 1.0
    frozen: frozenset[str] = frozenset()
    norm_trains: bool = False


class _Order(IntEnum):
    """What the first process tells the others to do."""

    STEP = 0
    END = 1
    EVALUATE = 2
    SAVE = 3
    LEAVE = 4  # a step, and all after it, as without finetui


_decoder = msgspec.msgpack.Decoder(Settings)


def own_ranks() -> Ranks:
    """Return the processes that train together by torch's process group, which a library has opened; all must call it.

    They meet in a group of their own, on the CPU: a pause keeps no collective of the training waiting, and no GPU is
    waited for.
    """
    if _known() == 1:
        return SINGLE
    rank, world = dist.get_rank(), dist.get_world_size()
    ranks = Ranks(RankInfo(rank=rank, world=world, local_rank=rank, local_world=world), _A_LONG_PAUSE)
    ranks.open(torch.device("cpu"))
    return ranks


def ranks_of(world: int) -> Ranks | None:
    """Return `own_ranks` where a library that trains in `world` processes means the same ones; None with a warning."""
    if world == _known():
        return own_ranks()
    message = f"finetui watches nothing: {world} processes train, and torch.distributed knows of {_known()}"
    warn(message)
    return None


def warn(message: str) -> None:
    """Show a warning; where these are errors, nothing is raised."""
    with suppress(RuntimeWarning):
        warnings.warn(message, RuntimeWarning, stacklevel=4)


def _known() -> int:
    return dist.get_world_size() if dist.is_available() and dist.is_initialized() else 1


class SharedRun(WatchedRun):
    """A `WatchedRun` that all `ranks` have; they call `before_step` at the same steps.

    `model` may be wrapped, for several processes say. `evaluate` and `save` are called on all ranks; `about()`, which
    returns `epochs`, `steps_per_epoch` and `classes`, on the first one. For the rest of the arguments see `watch`.
    """

    def __init__(
        self,
        ranks: Ranks,
        model: nn.Module,
        optimizers: Sequence[Optimizer],
        *,
        name: str = "",
        runs_dir: str | Path = "checkpoints",
        about: Callable[[], Mapping[str, Any]] = dict,
        evaluate: Callable[[], Any] | None = None,
        save: Callable[[Path], Any] | None = None,
        config: Mapping[str, Any] | None = None,
    ) -> None:
        self.ranks = ranks
        self._evaluate, self._save = evaluate, save
        self._parallel = wrapper_in(model)
        self._settings = Settings()  # those that all ranks have
        self._ended = self._left = False
        self._follower: _Follower | None = None
        if not ranks.is_first:
            try:
                self._follower = _Follower(model, optimizers, self._differs)
            except Exception as error:  # noqa: BLE001  # it goes along as one that watches nothing
                warn(f"finetui watches nothing on rank {ranks.rank}: {describe(error)}")

        def make() -> Loop:
            return Loop(
                model,
                optimizers,
                name=name,
                runs_dir=str(runs_dir),
                **about(),
                evaluate=self._evaluate_all if evaluate is not None else None,
                save=self._save_all if save is not None else None,
                config=config,
                world=ranks.world,
                why_no_freezing=why_no_freezing(model),
            )

        super().__init__(make if ranks.is_first else None)

    @property
    def stopped(self) -> bool:
        """Whether a person has told the run to stop."""
        return self._ended or super().stopped

    @property
    def point_due(self) -> bool:
        """Whether a point is due: time for what takes a while to find out. It is False but on the first rank."""
        return self._meter.due

    def begin(self, loader: Any, images: Any = None, shape: Sequence[int] = ()) -> None:
        """Tell which `loader` gives the batches, and a batch of `images` from it, or the `shape` of one of them."""
        if self.active and self._loop is not None:
            self._begin_epoch(loader)
            self._waited(0.0, images if images is not None else torch.empty(0, *shape))

    def waited(self, seconds: float) -> None:
        """Note how long a batch has been waited for."""
        self._meter.waiting += seconds

    def __enter__(self) -> Self:
        """Make the run's folder, and let dashboards attach."""
        super().__enter__()
        self._settings = self._settings_now()
        if self.ranks.world > 1:
            self._asked = (self.ranks,)  # all of them, before each step
        return self

    def _obey(self) -> bool:
        if not self.ranks.is_first:
            return self._follow()
        before = self._settings
        self._ended = not self._obey_here()
        if self.ranks.world > 1:
            self._tell_others(before)
        self._set_up_again(before, self._settings)
        return not self._ended

    @_harmless(True)
    def _obey_here(self) -> bool:
        assert self._loop is not None, "it is active"
        goes_on = self._loop.before_step()
        if self._settings_now() != self._settings:
            self._loop.look_at_layers()  # the others have frozen already what the loop itself has
            self._settings = self._settings_now()
        return goes_on

    def _tell_others(self, before: Settings) -> None:
        """Tell the other ranks what comes; those that wait are told whatever has become of the run here."""
        if not self.active and not self._left:
            self._left = True
            self.ranks.send_note(_Order.LEAVE, msgspec.msgpack.encode(self._settings))
            return
        note = msgspec.msgpack.encode(self._settings) if self._settings != before else b""
        self.ranks.send_note(_Order.END if self._ended else _Order.STEP, note)

    @_harmless(None)
    def validated(self, scores: Any, labels: Any, given: Any, metrics: Mapping[str, Any]) -> None:
        """Take what a validation predicted (as `predictions` does), and the `metrics` that it computed itself."""
        assert self._loop is not None, "it is active"
        self._loop.predictions(scores, labels, given, "val", metrics)

    def close(self, error: BaseException | None = None) -> None:
        """End the run, because of `error` if that has ended the training."""
        self.__exit__(type(error) if error is not None else None, error, None)

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> bool:
        """End the run, as `WatchedRun` does."""
        self._close_follower()
        return super().__exit__(kind, error, traceback)

    def _close_follower(self) -> None:
        follower, self._follower = self._follower, None
        if follower is not None:
            follower.close()

    def _give_up(self, error: Exception) -> None:
        # What is frozen stays so here, and a rate is the optimizer's own again: the other ranks are told so.
        self._settings = msgspec.structs.replace(self._settings_now(), factor=1.0)
        super()._give_up(error)

    def _settings_now(self) -> Settings:
        loop = self._loop
        if loop is None or loop.layers is None:
            return self._settings
        return Settings(loop.optimizers.factor, loop.layers.frozen, loop.layers.norm_trains)

    def _set_up_again(self, before: Settings, after: Settings) -> None:
        if self._parallel is not None and before.frozen != after.frozen:
            set_up_again(self._parallel)

    # -- what needs all ranks ---------------------------------------------------------------------------

    def _evaluate_all(self) -> Any:
        assert self._evaluate is not None, "it is only called where there is one"
        if self.ranks.world > 1:
            self.ranks.send_note(_Order.EVALUATE, b"")
        return self._evaluate()

    def _save_all(self, path: Path) -> Any:
        assert self._save is not None, "it is only called where there is one"
        if self.ranks.world > 1:
            self.ranks.send_note(_Order.SAVE, str(path).encode())
        return self._save(path)

    def _follow(self) -> bool:
        while True:
            order, note = self.ranks.send_note(0, b"")
            match order:
                case _Order.EVALUATE if self._evaluate is not None:
                    self._disturb(self._evaluate)
                case _Order.SAVE if self._save is not None:
                    self._disturb(functools.partial(self._save, Path(note.decode())))
                case _Order.LEAVE:
                    self._become(_decoder.decode(note))
                    self._close_follower()
                    return True
                case _:
                    if note:
                        self._become(_decoder.decode(note))
                    self._ended = order == _Order.END
                    return not self._ended

    def _disturb(self, work: Callable[[], Any]) -> None:
        if self._follower is not None:
            self._follower.undisturbed(work)
        else:  # it may need all ranks
            with suppress(Exception):
                work()

    def _become(self, settings: Settings) -> None:
        follower = self._follower
        if follower is None:
            return
        before = follower.settings
        try:
            follower.become(settings)
        except Exception as error:  # noqa: BLE001  # the loop goes on
            self._differs(error)
        self._set_up_again(before, settings)

    def _differs(self, error: Exception) -> None:
        warn(f"rank {self.ranks.rank} differs from the others: {describe(error)}")


class _Follower:
    """The network and the optimizers of a process that is not the first one."""

    def __init__(self, model: nn.Module, optimizers: Sequence[Optimizer], failed: Callable[[Exception], None]) -> None:
        self._model, inner = model, bare(model)
        self._optimizers = Optimizers(inner, optimizers, failed)
        self._layers = _FollowingLayers(inner, module_groups(inner), self._optimizers)
        self._optimizers.open()
        self.settings = Settings(frozen=self._layers.frozen)

    def become(self, settings: Settings) -> None:
        """Have these `settings`."""
        before, self.settings = self.settings, settings
        self._optimizers.factor = settings.factor
        self._layers.set_norm_trains(settings.norm_trains)
        if settings.frozen != before.frozen:
            self._layers.become(settings.frozen)

    def undisturbed(self, work: Callable[[], Any]) -> None:
        """Do what the first process does as well, which says what is wrong with it."""
        with suppress(BadInput), undisturbed(self._model, "it"):
            work()

    def close(self) -> None:
        """Leave network and optimizers as they are."""
        self._optimizers.close()
        self._layers.close()


class _FollowingLayers(WatchedLayers):
    """Layers that are frozen where those of the first process are, which has found that it can be."""

    def become(self, frozen: frozenset[str]) -> None:
        """Have exactly the layers `frozen`."""
        self.refresh()
        self._set(frozen)
