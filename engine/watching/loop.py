"""A watched loop from its beginning to its end: what it logs becomes points, and all of it a journal."""

import math
import time
import traceback
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack, suppress
from pathlib import Path
from typing import Any

from torch import Tensor, nn
from torch.optim import Optimizer

from finetui.engine.distributed.rank_info import rank_info_from
from finetui.engine.errors import describe, reason_of
from finetui.engine.files import link
from finetui.engine.models import module_groups
from finetui.engine.predictions.given_images import keep, kept_beside
from finetui.engine.protocol import events
from finetui.engine.protocol.config import RunConfig
from finetui.engine.protocol.values import AnyPart, Part
from finetui.engine.runs.folder import write_config
from finetui.engine.text import clean
from finetui.engine.training.layer_meter import gradient_norms
from finetui.engine.watching import run_description, scores
from finetui.engine.watching.layers import WatchedLayers
from finetui.engine.watching.loop_meter import ALWAYS, NEVER, LoopMeter, finite, numbers, others, rounded
from finetui.engine.watching.optimizers import Optimizers
from finetui.engine.watching.parallel import divided_by
from finetui.engine.watching.record import Record
from finetui.engine.watching.saving import Saver
from finetui.engine.watching.steering import Steering

_LOGGED = ("loss", "accuracy")
_NONE: Mapping[str, Any] = {}


class Loop:
    """What is known of a person's loop that trains `model`; the arguments are those of `watch`.

    `world` is the number of processes that train and all obey; by default only a single one obeys. `why_no_freezing`
    as in `WatchedLayers`.

    `stopped` is True once a person has stopped it, `shape` is that of an input.
    """

    def __init__(
        self,
        model: nn.Module | None,
        optimizers: Sequence[Optimizer],
        *,
        name: str,
        runs_dir: str,
        epochs: int | None = None,
        steps_per_epoch: int | None = None,
        classes: Sequence[str] | None = None,
        evaluate: Callable[[], Any] | None,
        save: Callable[[Path], Any] | None,
        config: RunConfig | Mapping[str, Any] | None,
        world: int | None = None,
        why_no_freezing: str = "",
    ) -> None:
        self.epoch = self._epoch_at = 0
        self.stopped = False
        self.wrapped, self.model = model, run_description.bare(model) if model is not None else None
        self.groups = module_groups(self.model) if self.model is not None else ()
        self.steering: Steering = Steering(self)
        looks = (self.steering.before_step, self._see_gradients, self.steering.after_update)
        self.optimizers = Optimizers(self.model, optimizers, self._has_failed, *looks)
        self.optimizers.looks = True
        self.layers = (
            WatchedLayers(self.model, self.groups, self.optimizers, why_no_freezing) if self.model is not None else None
        )
        self._parameters = tuple(map(id, self.model.parameters())) if self.model is not None else ()
        self.meter = LoopMeter()
        self._fault: Exception | None = None  # of finetui's own, within the loop's code
        self.evaluate = evaluate
        self.config = run_description.base_configuration(runs_dir, config)
        self._settings = config
        self._epochs, self.steps_per_epoch = epochs, steps_per_epoch or 0
        self._classes = self._known_classes = tuple(map(str, classes)) if classes is not None else ()
        self._begun = False
        self._loader: Any = None
        self.shape: tuple[int, ...] = ()
        self._norms: tuple[float, ...] | None = None
        self._parts: dict[Part, Path] = {}  # and the files of their predictions
        self._part: Part | None = None  # the one that is evaluated while training
        self._best = -math.inf
        self._diverged = False
        self.steered = world is not None or rank_info_from().world == 1
        self.world = world or rank_info_from().world
        # This rank alone can compute with them: it must not take part in collectives that the others do not.
        self.has_all = self.world == 1 or model is None or not divided_by(model)
        name = name or run_description.default_name(self.model)
        self.record: Record = Record(
            self.config, name, lambda: self.step, self.steering.aside, self._release, self.model
        )
        self.saver = Saver(save, self.model, model, self.optimizers, self.record.folder, self.has_all)
        self.optimizers.open()

    @property
    def step(self) -> int:
        """The steps completed."""
        return self.meter.steps

    def _begin(self) -> None:
        """Tell what there is, as soon as the loop shows what it does."""
        if self._begun:
            return
        self._begun = True
        self.steps_per_epoch = self.steps_per_epoch or run_description.size_of(self._loader)
        self.config = run_description.configuration(
            self.config, self.model, self.optimizers, self._loader, self._epochs
        )
        try:
            write_config(self.record.folder, self.config)
        except OSError as error:
            self.record.reporter.warn(f"config.toml could not be written: {reason_of(error)}")
        folder = self.record.folder
        self.record.reporter.emit(
            run_description.prepared(
                self.config,
                run_description.data_of(self._loader, self._classes, self.shape),
                self.model,
                self.groups,
                self.layers.table() if self.layers is not None else (),
                self.steps_per_epoch,
                run_description.settings(self._settings, self.optimizers, self._loader, self._epochs),
                self.steering.capabilities(),
                self.world,
            ),
            events.RunStarted(name=folder.name, path=clean(str(folder.path), 4096)),
        )
        self.record.set_state("running")
        self.meter.restart_clock()

    # -- what the loop tells ----------------------------------------------------------------------------

    def begin_epoch(self, number: int) -> None:
        """Let epoch `number`, from 1, begin."""
        self.emit_point()
        self._look_at_model()
        self.epoch, self._epoch_at = number, self.step
        self.meter.restart_clock()

    def _look_at_model(self) -> None:
        """Take note of layers that the loop has added to its network, or taken out."""
        if self.model is None or self.layers is None:
            return
        there = tuple(map(id, self.model.parameters()))
        if there == self._parameters:
            return
        self._parameters = there
        self.groups = module_groups(self.model)
        self.layers.regroup(self.groups)
        if self._begun:
            self.record.reporter.emit(
                events.Log(level="info", message="the loop has changed the layers of its network"),
                events.LayersChanged(layers=self.layers.table()),
            )

    def begin_epoch_of(self, loader: Any) -> None:
        """Let the next epoch begin, over what `loader` gives."""
        self._loader = self._loader if self._begun else loader
        self.begin_epoch(self.epoch + 1)

    def waited(self, seconds: float, batch: Any) -> None:
        """Note how long `batch` has been waited for."""
        self.meter.waiting += seconds
        if not self.shape:
            first = (
                next((part for part in batch if isinstance(part, Tensor)), None)
                if isinstance(batch, (tuple, list))
                else batch
            )
            self.shape = tuple(first.shape[1:]) if isinstance(first, Tensor) else (0,)

    def before_step(self) -> bool:
        """Obey what has come; wait while paused. Return False once the run is to stop."""
        self._begin()
        if self.layers is not None:
            self.layers.train_mode()  # a loop that is paused may have just put its network into training mode
        self.steering.obey()
        self._look_ahead()
        return not self.stopped

    def after_step(self) -> None:
        """Look at a step that was counted by the `meter`: it ends after `meter.look_at`."""
        looked = self.optimizers.looks
        self.optimizers.restore()  # of an update that has raised
        if self._fault is not None:
            raise self._fault
        self._begin()
        self.epoch = max(self.epoch, 1)
        self.steering.stepped()
        if looked and (self.meter.due or self.meter.overdue):
            self.emit_point()
        self._look_ahead()

    def _look_ahead(self) -> None:
        anyway = self.step == 0 or self.steering.looks
        self.optimizers.looks = self.meter.look_ahead(anyway, point=self.record.state == "paused")

    # -- what optimizers do -----------------------------------------------------------------------------

    def _has_failed(self, error: Exception) -> None:
        """Keep an `error` of finetui's own, which the loop's code must not see, for the end of the step."""
        self._fault = error
        self.meter.look_at = ALWAYS

    def _see_gradients(self) -> None:
        if self.layers is None or self._fault is not None:
            return
        if self.meter.due or self.step == 0:
            with self.meter.costs():
                self.layers.saw_gradients()
                self._norms = self._gradient_norms()
        self.steering.before_update()

    def _take_norms(self) -> tuple[float, ...] | None:
        """Return the norm of each layer group's last gradient; None where the loop has forgotten that already."""
        norms, self._norms = self._norms, None
        if norms is None and self.groups:
            norms = self._gradient_norms()
            return norms if norms is not None and any(norms) else None
        return norms

    def _gradient_norms(self) -> tuple[float, ...] | None:
        return gradient_norms(self.groups) if self.has_all else None

    # -- points -----------------------------------------------------------------------------------------

    def emit_point(self) -> None:
        """Emit what the steps since the last point were like, if there was any."""
        if self.meter.steps_since_point:
            with self.meter.costs(last=True):
                self._emit_point()

    def look_at_layers(self) -> None:
        """Tell where the loop itself has frozen or unfrozen layers."""
        if self.layers is not None and self.layers.refresh():
            self.record.reporter.emit(events.LayersChanged(layers=self.layers.table()))

    def _emit_point(self) -> None:
        meter = self.meter
        self.look_at_layers()
        means, read = meter.take()
        steps, samples = meter.steps_since_point, meter.samples
        seconds, shares = meter.shares()
        rate, norms = self.optimizers.rate(), self._take_norms()
        self.record.reporter.emit(
            events.TrainPoint(
                epoch=self.epoch,
                step_in_epoch=self.step - self._epoch_at,
                steps=steps,
                loss=means.get("loss"),
                accuracy=means.get("accuracy"),
                learning_rate=None if rate is None else rate * self.optimizers.factor,
                grad_norm=finite(math.hypot(*norms)) if norms is not None else None,
                samples_per_second=samples / seconds if samples else None,
                group_grad_norms=rounded(norms) if norms is not None else (),
                group_rate_factors=self.optimizers.rate_factors(self.groups),
                time_shares=shares,
                others={clean(name, 60): mean for name, mean in means.items() if name not in _LOGGED},
            )
        )
        self.record.tell_what_came()
        if not self._diverged and not all(map(math.isfinite, read.get("loss", ()))):
            self._diverged = True
            self.record.reporter.emit(
                events.Alert(kind="divergence", message=f"the loss is no longer finite at step {self.step:,}")
            )

    # -- evaluations ------------------------------------------------------------------------------------

    def predictions(
        self, probabilities: Any, labels: Any, given: Any, part: Part, metrics: Mapping[str, Any] = _NONE
    ) -> None:
        """Keep what was predicted, and tell what it comes to, and `metrics` beside it. Raises `BadInput`."""
        more = numbers(metrics, self.record.warn_once)
        self._begin()
        self.emit_point()
        started = time.monotonic()
        report, classes = scores.report(probabilities, labels, self._classes)
        self._known_classes = classes
        files, pixels = scores.images(given, report.n)
        folder = self.record.folder
        watched = self._is_watched(part)
        path = folder.last_predictions if watched else folder.predictions_of(part)
        best = watched and report.accuracy > self._best
        kept = scores.predictions_of(
            report, scores.origin(classes, self.config.data.name, folder.name, self.step, part), files
        )
        try:
            kept.save(path)
            if pixels is not None:
                keep(kept_beside(path), pixels)
            self._parts[part] = path
            if best:
                link(path, folder.best_predictions)
        except OSError as error:
            self.record.reporter.warn(f"the predictions could not be written: {reason_of(error)}")
            path = Path()
        self._best = max(self._best, report.accuracy) if watched else self._best
        self.record.reporter.emit(
            events.Evaluated(
                epoch=max(self.epoch, 1),
                loss=report.loss,
                accuracy=report.accuracy,
                n=report.n,
                per_class=report.per_class,
                confusion=tuple(tuple(row) for row in report.confusion.tolist()),
                best=best,
                seconds=time.monotonic() - started,
                predictions=path.name,
                averages=report.averages,
                part=part,
                watched=watched,
                others=others(more),
            )
        )
        self.meter.restart_clock()

    def evaluated(self, metrics: Mapping[str, Any], part: Part, n: int) -> None:
        """Tell what an evaluation came to. Raises `BadInput`."""
        told = numbers(metrics, self.record.warn_once)
        self._begin()
        self.emit_point()
        watched = self._is_watched(part)
        accuracy = told.pop("accuracy", None)
        best = watched and accuracy is not None and accuracy > self._best
        self._best = accuracy if best and accuracy is not None else self._best
        self.record.reporter.emit(
            events.Evaluated(
                epoch=max(self.epoch, 1),
                loss=told.pop("loss", None),
                accuracy=accuracy,
                n=n,
                per_class=(),
                confusion=(),
                best=best,
                seconds=0.0,
                part=part,
                watched=watched,
                others=others(told),
            )
        )
        self.meter.restart_clock()

    def _is_watched(self, part: Part) -> bool:
        if self._part is None and part != "train":
            self._part = part
        return part == self._part

    def save_as(self, name: str) -> None:
        """Write a checkpoint, and tell of it. Raises `BadInput`."""
        saved = self.saver.save(
            name,
            step=self.step,
            epoch=max(self.epoch, 1),
            at=self.record.next_seq,
            classes=self._known_classes,
            shape=self.shape,
            data=self.config.data.name,
        )
        if saved is not None:
            self.record.reporter.emit(saved)
        self.meter.restart_clock()

    def predictions_file(self, part: AnyPart) -> Path | None:
        """Return the file with the predictions of `part`, empty: of what is evaluated while training."""
        return self._parts.get(wanted) if (wanted := part or self._part) else None

    # -- the end ----------------------------------------------------------------------------------------

    def close(self, state: events.State | None, reason: str) -> None:
        """End the run as `state`, by default as it is: finished, or stopped."""
        self._release()
        self.steering.close()
        try:
            self._begin()
            self.emit_point()
        finally:
            self.record.end(state or ("stopped" if self.stopped else "finished"), reason)

    def abandon(self, error: Exception) -> None:
        """Watch the loop no more, because of an `error` of finetui's own; the loop goes on."""
        reason = f"finetui no longer watches this loop, which continues: {describe(error)}"
        # All of it is tried, the last one first, and nothing of it may reach the loop.
        with suppress(Exception), ExitStack() as stages:
            stages.callback(self.record.end, "failed", reason)
            stages.callback(self._write_down, error)
            stages.callback(self.steering.close)
            stages.callback(self._release)

    def _write_down(self, error: Exception) -> None:
        with self.record.folder.log.open("a", encoding="utf-8") as log:
            log.write("".join(traceback.format_exception(error)))

    def _release(self) -> None:
        """Let go of the network and its optimizers."""
        self.meter.look_at = NEVER
        self.optimizers.close()
        if self.layers is not None:
            self.layers.close()
