"""`finetui.LightningCallback`: a Lightning Trainer's run on dashboards, and steered by them."""

import copy
import math
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from torch import Tensor

from finetui.engine.watching.callbacks.guard import harmless
from finetui.engine.watching.callbacks.validation import (
    Outputs,
    Validation,
    classes_of,
    count_in,
    images_in,
    labels_in,
    mean,
    named,
    scores_in,
    tell,
)
from finetui.engine.watching.shared_run import SharedRun, ranks_of

if TYPE_CHECKING:
    from lightning.pytorch import Callback, LightningModule, Trainer
    from lightning.pytorch.loggers.logger import DummyLogger
else:
    try:
        from lightning.pytorch import Callback
        from lightning.pytorch.loggers.logger import DummyLogger
    except ModuleNotFoundError:  # it is installed by its older name
        from pytorch_lightning import Callback
        from pytorch_lightning.loggers.logger import DummyLogger

# What a validation changes, of the objects that it goes through.
_OF_TRAINER = ("callbacks", "loggers", "should_stop", "_last_val_time")
_OF_CONNECTOR = (
    "_first_loop_iter",
    "_current_fx",
    "_callback_metrics",
    "_logged_metrics",
    "_progress_bar_metrics",
)
_OF_LOOP = ("_seen_batches_per_dataloader",)


class LightningCallback(Callback):
    """Has dashboards see and steer what a Trainer trains: `Trainer(callbacks=[finetui.LightningCallback()])`.

    Each `fit` is a run in `runs_dir`, called `name` (by default date, script and model). A step is a step of the
    optimizer, or of several in one batch. Commands are obeyed between steps; in several processes by all of them at the
    same one. What is logged with `self.log` is shown; what the validation says of each image is found in what
    `validation_step` returns or in what the network returns within it (logits or probabilities, `[n, classes]`), and
    in batches of images and labels (a tuple, or a mapping with names such as `image` and `label`). `classes` are the
    names of the classes, by default those of the data set. `config` are settings to be kept with the run.
    """

    def __init__(
        self,
        *,
        name: str = "",
        runs_dir: str | Path = "checkpoints",
        classes: Sequence[str] | None = None,
        config: Mapping[str, Any] | None = None,
    ) -> None:
        super().__init__()
        self._given: dict[str, Any] = {"name": name, "runs_dir": runs_dir, "config": config}
        self._classes = list(classes) if classes is not None else None
        self._run: SharedRun | None = None

    # -- the run ----------------------------------------------------------------------------------------

    @harmless
    def on_train_start(self, trainer: "Trainer", pl_module: "LightningModule") -> None:
        """Open a run; the sanity check is over by then."""
        ranks = ranks_of(trainer.world_size)
        if ranks is None:
            return
        self._validation = Validation(ranks, "image")
        self._outputs: Outputs | None = None
        self._of_validation: set[str] = set()
        self._known: set[str] = set()
        self._steps = trainer.global_step
        self._samples = 0
        self._losses: list[Tensor] = []
        self._asked = False
        self._done_at = time.perf_counter()
        self._run = SharedRun(
            ranks,
            trainer.strategy.model if trainer.strategy.model is not None else pl_module,
            list(trainer.optimizers),
            about=lambda: {
                "epochs": trainer.max_epochs if (trainer.max_epochs or 0) > 0 else None,
                "steps_per_epoch": _steps_per_epoch(trainer),
                "classes": self._classes or classes_of(trainer.train_dataloader),
            },
            evaluate=(lambda: self._validate(trainer)) if trainer.enable_validation else None,
            save=lambda path: trainer.save_checkpoint(path, weights_only=False),  # Lightning logs an unset one
            **self._given,
        )
        self._run.__enter__()

    @harmless
    def on_train_end(self, trainer: "Trainer", pl_module: "LightningModule") -> None:
        """End the run: finished, or stopped."""
        self._close(None)

    @harmless
    def on_exception(self, trainer: "Trainer", pl_module: "LightningModule", exception: BaseException) -> None:
        """End the run as crashed, or as stopped from the keyboard; the exception goes on."""
        self._close(exception)

    @harmless
    def teardown(self, trainer: "Trainer", pl_module: "LightningModule", stage: str) -> None:
        """Leave nothing behind, however it ended."""
        self._close(None)

    @harmless
    def _close(self, error: BaseException | None) -> None:
        run, self._run = self._run, None
        if run is not None:
            if self._outputs is not None:
                self._outputs.close()
            run.close(error)

    # -- steps ------------------------------------------------------------------------------------------

    @harmless
    def on_train_epoch_start(self, trainer: "Trainer", pl_module: "LightningModule") -> None:
        """Let the next epoch begin."""
        if self._run is not None and self._asked:
            self._run.epoch(trainer.current_epoch + 1)

    @harmless
    def on_train_batch_start(
        self, trainer: "Trainer", pl_module: "LightningModule", batch: Any, batch_idx: int
    ) -> None:
        """Obey before the first step; every other time it is done at the end of the one before."""
        run = self._run
        if run is None:
            return
        if self._asked:
            run.waited(time.perf_counter() - self._done_at)
            return
        self._asked = True
        self._begin(trainer, run, batch)
        self._obey(trainer, run)

    @harmless
    def _begin(self, trainer: "Trainer", run: SharedRun, batch: Any) -> None:
        run.begin(trainer.train_dataloader, images_in(batch))
        run.epoch(trainer.current_epoch + 1)

    @harmless
    def on_train_batch_end(
        self, trainer: "Trainer", pl_module: "LightningModule", outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        """Count a step where an optimizer has stepped, and obey."""
        run = self._run
        if run is None:
            return
        steps = trainer.global_step
        stepped = steps != self._steps
        self._look_at(trainer, run, pl_module, outputs, batch, stepped)
        if stepped:
            self._steps = steps
            samples, self._samples = self._samples, 0
            run.after_step(samples * run.ranks.world)
            self._obey(trainer, run)
        self._done_at = time.perf_counter()

    @harmless
    def _look_at(
        self,
        trainer: "Trainer",
        run: SharedRun,
        pl_module: "LightningModule",
        outputs: Any,
        batch: Any,
        stepped: bool,
    ) -> None:
        self._samples += count_in(batch)
        loss = outputs.get("loss") if isinstance(outputs, Mapping) else outputs
        if isinstance(loss, Tensor):
            # Lightning has divided it, where gradients are accumulated and it does that itself.
            parts = trainer.accumulate_grad_batches if pl_module.automatic_optimization else 1
            loss = loss.detach() * parts if parts > 1 else loss
            self._losses.append(loss if stepped else loss.detach().clone())  # what has to wait may be changed in place
        if stepped:
            self._log(trainer, run)

    def _log(self, trainer: "Trainer", run: SharedRun) -> None:
        losses, self._losses = self._losses, []
        if losses:
            run.log(loss=mean(losses))
        if run.point_due:  # asking for them takes a while
            metrics = {
                name: value for name, value in trainer.callback_metrics.items() if name not in self._of_validation
            }
            run.log(**named(metrics, without="loss" if losses else ""))

    def _obey(self, trainer: "Trainer", run: SharedRun) -> None:
        if run.before_step():
            return
        # Somebody who stops a run means it, whatever the least number of epochs or steps was to be.
        trainer.fit_loop.min_epochs = 0
        trainer.fit_loop.epoch_loop.min_steps = None
        trainer.should_stop = True

    def _validate(self, trainer: "Trainer") -> None:
        """Run the validation loop between two steps, as the training loop does at its intervals."""
        with _unseen(trainer, self):
            trainer.validating = True
            try:
                trainer.fit_loop.epoch_loop.val_loop.run()
            finally:
                trainer.training = True

    # -- validation -------------------------------------------------------------------------------------

    @harmless
    def on_validation_start(self, trainer: "Trainer", pl_module: "LightningModule") -> None:
        """Begin to collect what is said of each image; not in the sanity check, which comes before the run."""
        if self._run is not None:
            self._validation.begin()
            self._outputs = Outputs(pl_module, self._run)
            self._known = set(trainer.callback_metrics)  # names of metrics

    @harmless
    def on_validation_batch_end(
        self,
        trainer: "Trainer",
        pl_module: "LightningModule",
        outputs: Any,
        batch: Any,
        batch_idx: int,
        dataloader_idx: int = 0,
    ) -> None:
        """Collect; of several validation sets the first."""
        if self._run is None or self._outputs is None or dataloader_idx:
            return
        labels = labels_in(batch)
        count = len(labels) if labels is not None else 0
        seen = self._outputs.take(count)
        returned = scores_in(outputs, count)
        self._validation.add(returned if returned is not None else seen, labels, images_in(batch))

    @harmless
    def on_validation_end(self, trainer: "Trainer", pl_module: "LightningModule") -> None:
        """Tell what the validation came to."""
        run = self._run
        if run is None or self._outputs is None:
            return
        self._outputs.close()
        self._outputs = None
        self._of_validation |= set(trainer.callback_metrics) - self._known
        metrics = {name: value for name, value in trainer.callback_metrics.items() if name in self._of_validation}
        loader = trainer.val_dataloaders
        loader = loader[0] if isinstance(loader, list | tuple) and loader else loader
        tell(run, self._validation, loader, metrics)


def _steps_per_epoch(trainer: "Trainer") -> int | None:
    batches = trainer.num_training_batches
    return math.ceil(batches / trainer.accumulate_grad_batches) if 0 < batches < math.inf else None


@contextmanager
def _unseen(trainer: "Trainer", callback: Callback) -> Iterator[None]:
    """Let nobody but `callback` see a validation that is run within: no other callback, no logger, no metric of it.

    So it neither becomes the best checkpoint nor stops the training early.
    """
    loop = trainer.fit_loop.epoch_loop.val_loop
    owners = ((trainer, _OF_TRAINER), (trainer._logger_connector, _OF_CONNECTOR), (loop, _OF_LOOP))
    names = [(owner, name) for owner, names in owners for name in names if hasattr(owner, name)]
    before = [(owner, name, copy.copy(getattr(owner, name))) for owner, name in names]
    progress = copy.deepcopy(loop.batch_progress.state_dict())
    trainer.callbacks = [callback]
    trainer.loggers = [DummyLogger() for _ in trainer.loggers]  # a validation step may ask for them
    try:
        yield
    finally:
        for owner, name, value in before:
            setattr(owner, name, value)
        loop.batch_progress.load_state_dict(progress)
