"""The training loop: one step at a time, and exactly where it is."""

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import msgspec
import torch
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel

from finetui.engine.data import Split, augmentation
from finetui.engine.distributed.ranks import SINGLE, Ranks
from finetui.engine.models import ModuleGroup
from finetui.engine.protocol.config import TrainingConfig
from finetui.engine.protocol.events import TrainPoint
from finetui.engine.protocol.values import FastPath
from finetui.engine.training.class_balance import class_weights
from finetui.engine.training.divergence import Diverged, LossGuard
from finetui.engine.training.divided_step import divided_step
from finetui.engine.training.epoch_steps import EpochSteps
from finetui.engine.training.features.use import FeatureUse
from finetui.engine.training.forward import Forward
from finetui.engine.training.freezing import Freezer
from finetui.engine.training.layer_decay import decayed
from finetui.engine.training.layer_meter import gradient_norms
from finetui.engine.training.learning_rate import LearningRates
from finetui.engine.training.metrics import Meter
from finetui.engine.training.optimizer import ParameterGroups, build_optimizer, load_state_by_name, state_by_name
from finetui.engine.training.recipes import Stage, check_plan, frozen_layers, schedules_of, stage_at, whole_run
from finetui.engine.training.rules import CURRENT, ONE_THREAD
from finetui.engine.training.step_observer import StepObserver

OnStep = Callable[[int, Tensor], None]
Batch = tuple[Tensor, Tensor]


class Trainer:
    """Takes training steps and knows exactly where it is.

    `step` counts the steps completed in the run, `epoch` the epochs, `position` the steps completed in the epoch
    in progress. The data order of an epoch depends on the seed and the epoch's number alone, so these three say
    which batch comes next. `plan` divides the epochs into stages; layers that a person froze or unfroze by hand stay
    as the person left them when a stage begins. What the model's owner froze counts as frozen by hand before the first
    step: no stage thaws it, a person can. `training` is the configuration's section.
    """

    def __init__(
        self,
        model: nn.Module,
        groups: Sequence[ModuleGroup],
        data: Split,
        training: TrainingConfig,
        on_step: OnStep | None = None,
        *,
        plan: Sequence[Stage] = (),
        always_frozen: Sequence[str] = (),
        augment: str = "none",
        classes: int = 0,
        explode_factor: float = 0.0,
        path: FastPath = FastPath(),  # noqa: B008  # immutable
        rules: int = CURRENT,
        ranks: Ranks = SINGLE,
    ) -> None:
        """Build the optimizer for `model`, which is on the device that `data` gives its batches on.

        `on_step(step, loss)` is called after every step with the steps completed and the batch's loss, a detached
        scalar on the device. `classes` is needed where the last ones may have no image; for `explode_factor` see
        `LossGuard`; `model` lies in memory as `path` has it (see `fast_paths`), and is trained by `rules` (see the
        module of this name). Raises `BadInput` when a batch is larger than the data, or nothing would train.
        """
        self.left_out = 0  # batches of one image that were passed over
        self.model = model
        self.groups = groups
        self.path = path
        self.rules = rules
        self.ranks = ranks
        self._data = data
        self._classes = classes
        self._parameters = {name: p for group in groups for name, p in group.parameters.items()}
        self._configure(training, plan)
        self.freezer = Freezer(model, groups, self.optimizer, training.frozen_norm_trains)
        self.step = self.epoch = self.position = 0
        self.features = FeatureUse(one_thread=rules >= ONE_THREAD)
        self.device = next(model.parameters()).device
        self._on_step = on_step
        self._augmentation = augmentation(augment)
        self._always_frozen = self.freezer.layers_of(always_frozen)
        self._by_hand = self.freezer.owner
        self._batches: Iterator[tuple[Any, Tensor]] | None = None
        self._guard = LossGuard(explode_factor, classes)
        self._meter = Meter(self._guard, ranks)
        self.observers: list[StepObserver] = []
        check_plan(self.plan, self.freezer, self._always_frozen)
        self._begin_stage()

    def _configure(self, training: TrainingConfig, plan: Sequence[Stage]) -> None:
        """Build what follows from the settings. Raises `BadInput`."""
        self._steps = EpochSteps(self.model, self._data, training)
        self.steps_per_epoch = self._steps.per_epoch
        self.training = training
        self.plan = decayed(plan or whole_run(training.epochs), self.groups, training.layer_decay)
        self.epochs = training.epochs
        self.optimizer = build_optimizer(self.groups, training, fused=self.path.fused)
        self._rated = ParameterGroups(self.optimizer)
        # On a small set a hundred steps would be several epochs.
        self.rates = LearningRates(training.lr, min(training.thaw_warmup_steps, self.steps_per_epoch))
        weights = class_weights(self._data.labels, training.class_weights, self._classes, self.model)
        self.forward = Forward(self.model, training, self.path, weights)
        parameters = list(self._parameters.values())
        self.divided = divided_step(self.forward, parameters, self._data, weights, training, self.ranks)

    def change(self, training: TrainingConfig, plan: Sequence[Stage]) -> None:
        """Train by other settings from the next step on, as a run does that goes on by them. Raises `BadInput`."""
        state = self.state_dict()
        self._configure(training, plan)
        self.freezer.optimizer = self.optimizer
        self.load_state_dict(state)

    @property
    def parameters(self) -> Mapping[str, nn.Parameter]:
        """All parameters, by their names."""
        return self._parameters

    @property
    def parallel(self) -> DistributedDataParallel | None:
        """What exchanges the gradients with other ranks, if anything does just now."""
        return self.divided.parallel if self.divided is not None else None

    @property
    def done(self) -> bool:
        """Whether all epochs are complete."""
        return self.epoch >= self.epochs

    @property
    def epoch_complete(self) -> bool:
        """Whether all steps of the epoch in progress were taken."""
        return self.position >= self._steps.now

    @property
    def progress(self) -> float:
        """The epochs trained so far; one whose batch size was changed counts what is left of it by the new size."""
        return self.epoch + 1 - (self._steps.now - self.position) / self.steps_per_epoch

    @property
    def stage(self) -> int:
        """Index of the stage that the epoch in progress belongs to."""
        return stage_at(self.plan, self.epoch)

    def train_step(self) -> None:
        """Take one step: get the batch, forward, backward, update.

        Raises `Diverged` for a loss that is none any more: on the CPU before the step has changed anything, on other
        devices, which would have to be waited for, with the next point.
        """
        self.features.compute(self._step, self.training.batch_size)

    def _step(self) -> None:
        inputs, labels = self._next_batch()
        self.rates.apply(self._rated, self.step)
        trains = self.trains_on(labels)
        if trains:
            self._rated.forget_gradients()
            if self.divided is None:
                loss, logits, backward = self.forward.step(inputs, labels, self.freezer, self.features.cache)
                if self.device.type == "cpu":
                    self._check(loss.item())
                backward()
            else:
                loss, logits = self.divided.compute(inputs, labels, self.freezer)
                if self.device.type == "cpu" and self.ranks.world == 1:
                    self._check(loss.item())
            for observer in self.observers:
                observer.before()
            self._rated.step()
            for observer in self.observers:
                observer.after()
            self._meter.add(loss.detach(), logits, labels)
        self.step += 1
        self.position += 1
        if self._on_step is not None and trains:
            self._on_step(self.step, loss.detach())

    def trains_on(self, labels: Tensor) -> bool:
        """Return whether a step is taken on a batch with these labels: it may have shrunk by what cannot be read.

        Batch normalisation cannot train on a single image.
        """
        count = len(labels) if self.divided is None else self.divided.dealt.images
        if count == 1 and self.forward.normed:
            self.left_out += 1
        return count > (1 if self.forward.normed else 0)

    def _check(self, loss: float) -> None:
        try:
            self._guard.check(loss, self.step + 1)
        except Diverged:
            self._batches = None  # the step was not taken: its batch comes again
            raise

    def batches(self, epoch: int, position: int) -> Iterator[Batch]:
        """Yield the batches of `epoch` from step `position` on."""
        order, seeds = self._left(epoch, position)
        augment = self._augment if self._augmentation else None
        reader = self._data if self.divided is None else self.divided.dealt
        return reader.batches(order, self.training.batch_size, augment, seeds)

    def _left(self, epoch: int, position: int) -> tuple[Tensor, Tensor | None]:
        """Return the images left of `epoch` from step `position` on, in order, and their seeds if they draw."""
        return self._steps.left(epoch, position, in_progress=epoch == self.epoch)

    def _next_batch(self) -> tuple[Any, Tensor]:
        if self._batches is None:
            cache, here, size = self.features.cache, (self.epoch, self.position), self.training.batch_size
            self._batches = self.batches(*here) if cache is None else cache.batches(self._left(*here)[0], size)
        return next(self._batches)

    def _augment(self, images: Tensor) -> Tensor:
        assert self._augmentation is not None
        # A generator for each step: a continued run draws what an uninterrupted one would have drawn.
        generator = torch.Generator(images.device).manual_seed((self.training.seed * 1_000_003 + self.step) % 2**63)
        return self._augmentation(images, generator, None if self.divided is None else self.divided.dealt.part)

    def end_epoch(self) -> Stage | None:
        """Go to the start of the next epoch; return the stage that begins with it, if one does."""
        before = self.stage
        self.epoch += 1
        self.position = 0
        self._steps.begin_epoch()
        self._batches = None
        self.features.begin_epoch()
        if self.done or self.stage == before:
            return None
        self._begin_stage()
        return self.plan[self.stage]

    def train_owners_frozen(self) -> None:
        """Train what the model's owner froze as well, as earlier versions did, where nothing was trained yet."""
        self._by_hand -= self.freezer.owner
        self.freezer.hold(())
        self._begin_stage()

    def _begin_stage(self) -> None:
        """Freeze and thaw what the stage that contains `epoch` says, and take up its learning rates."""
        stage = self.plan[self.stage]
        wanted = frozen_layers(stage, self.freezer) | self._always_frozen
        freeze = wanted - self._by_hand
        thaw = self.freezer.frozen - wanted - self._by_hand - self.freezer.bypassed
        thawed = self.freezer.set(thaw, frozen=False)
        self.freezer.set(freeze, frozen=True)
        self.revise_features()
        if stage.fresh:
            self.optimizer.state.clear()
        else:
            self._warm_up(thawed)
        self._follow_schedule()

    def stays(self, epoch: int) -> frozenset[str]:
        """Return the layers that stay the same now and in `epoch` (from 0), by what is known now."""
        planned = frozen_layers(self.plan[stage_at(self.plan, epoch)], self.freezer) | self._always_frozen
        return self.freezer.fixed & (planned | self._by_hand)

    def revise_features(self) -> None:
        """Drop the features that are kept if their layers do not stay the same any more."""
        if self.features.revise(self.freezer.fixed, at_start=self.position == 0):
            self._batches = None

    def _follow_schedule(self) -> None:
        stage = self.plan[self.stage]
        first_epoch = sum(earlier.epochs for earlier in self.plan[: self.stage])
        schedules = schedules_of(stage, self.training, self.steps_per_epoch, first=first_epoch == 0, rules=self.rules)
        # By what is left: an epoch whose batch size was changed has other steps than the schedule counts with.
        left = self._steps.now - self.position
        first_step = self.step + left - (self.epoch + 1 - first_epoch) * self.steps_per_epoch
        self.rates.begin(schedules, first_step, stage.lr_factor, stage.factors)

    def set_frozen(self, groups: Sequence[str], frozen: bool, layers: Sequence[str] = ()) -> bool:
        """Freeze or unfreeze layer groups (or modules) and layers from the next step on; return whether that changed.

        What is unfrozen in the course of training warms up, layer by layer. Raises `BadInput` when it cannot be done.
        """
        changed = self.freezer.set(self.freezer.layers_of(groups) | frozenset(layers), frozen)
        self._by_hand |= changed
        self.revise_features()
        if not frozen:
            self._warm_up(changed)
        return bool(changed)

    def _warm_up(self, thawed: frozenset[str]) -> None:
        if not self.step:
            return
        for group in self.groups:
            layers = {layer.name for layer in group.layers}
            for layer in layers & thawed if self.rules > 1 else layers if layers & thawed else ():
                self.rates.thaw(layer, self.step)

    def point_due(self) -> bool:
        """Whether it is time for `take_point`; asking costs next to nothing."""
        return self._meter.due()

    def take_point(self) -> TrainPoint | None:
        """Return the means since the last point, or None if there was no step.

        This waits for the device. Raises `Diverged` when a step's loss was none any more.
        """
        if not self._meter.steps:
            return None
        norms = gradient_norms(self.groups)
        factors = tuple(map(self._group_factor, self.groups))
        means = self._meter.take(self.epoch + 1, self.position, self.step)
        return TrainPoint(
            step=self.step,
            epoch=self.epoch + 1,
            step_in_epoch=self.position,
            learning_rate=self.rates.at(self.step - 1),
            grad_norm=math.hypot(*norms),
            group_grad_norms=tuple(float(f"{norm:.4g}") for norm in norms),
            group_rate_factors=() if set(factors) == {1.0} else tuple(float(f"{factor:.4g}") for factor in factors),
            **means,
        )

    def _group_factor(self, group: ModuleGroup) -> float:
        """Return the highest factor of the layers of `group` that train: while one of them warms up, the others'."""
        trains = (layer.name for layer in group.layers if layer.parameters and layer.name not in self.freezer.frozen)
        return max((self.rates.factor(name, self.step - 1) for name in trains), default=1.0)

    def restart_batches(self) -> None:
        """Get the batches anew from the present position on, after somebody else has read the data."""
        self._batches = None
        self.features.restart()

    def restart_clock(self) -> None:
        """Leave the time since the last step (a pause, an evaluation) out of the samples per second."""
        self._meter.restart_clock()

    def state_dict(self) -> dict[str, Any]:
        """Return everything but the weights that an exact continuation needs; plain types and tensors only."""
        return {
            "step": self.step,
            "epoch": self.epoch,
            "position": self.position,
            "frozen": sorted(self.freezer.frozen),
            "by_hand": sorted(self._by_hand),
            "held": sorted(self.freezer.held),
            "norm_trains": self.freezer.norm_trains,
            "fast": msgspec.to_builtins(self.path),
            "rules": self.rules,
            "settings": msgspec.to_builtins(self.training),
            "resized": list(self._steps.resized),
            "features": self.features.state_dict(),
            "rates": self.rates.state_dict(),
            "meter": self._meter.state_dict(),
            "guard": self._guard.state_dict(),
            "optimizer": state_by_name(self.optimizer, self._parameters),
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Restore what `state_dict` returned. Raises `BadInput` when it does not fit this model.

        Of a training by other settings it keeps the place in the epoch's images; another optimizer begins anew, and
        with another learning rate one that a person had set is forgotten.
        """
        now = msgspec.to_builtins(self.training)
        changed = {name for name, value in state.get("settings", now).items() if now.get(name) != value}
        self.step, self.epoch, self.position = state["step"], state["epoch"], state["position"]
        self._steps.go_on(state, resized="batch_size" in changed)
        frozen = frozenset(state["frozen"])
        self.freezer.hold(state.get("held", ()))  # before these were kept, what the owner had frozen trained
        self.freezer.set(self.freezer.frozen - frozen, frozen=False)
        self.freezer.set(frozen, frozen=True)
        norm_trains = self.training.frozen_norm_trains if "frozen_norm_trains" in changed else state["norm_trains"]
        self.freezer.set_norm_trains(norm_trains)
        self._by_hand = frozenset(state["by_hand"])
        self.features.load_state_dict(state.get("features", {}))
        self._follow_schedule()
        self.rates.load_state_dict(
            state["rates"], {group.name: tuple(layer.name for layer in group.layers) for group in self.groups}
        )
        if "lr" in changed:
            self.rates.user = 1.0
        self._meter.load_state_dict(state["meter"])
        self._guard.load_state_dict(state["guard"])
        kept = {} if "optimizer" in changed else state["optimizer"]
        load_state_by_name(self.optimizer, self._parameters, kept)
        self._batches = None
        for observer in self.observers:
            observer.restart()
        self.revise_features()
