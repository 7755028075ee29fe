"""`finetui.TransformersCallback`: a Hugging Face Trainer's run on dashboards, and steered by them."""

import functools
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from torch import Tensor, nn
from torch.nn import functional
from torch.optim import Optimizer
from transformers import (
    Trainer,
    TrainerCallback,
    TrainerControl,
    TrainerState,
    TrainingArguments,
)

from finetui.engine.watching.callbacks.guard import harmless
from finetui.engine.watching.callbacks.validation import (
    Validation,
    classes_of,
    images_in,
    labels_in,
    mean,
    scores_in,
    tell,
)
from finetui.engine.watching.shared_run import SharedRun, ranks_of

_UNSAID = ("eval_runtime", "eval_samples_per_second", "eval_steps_per_second", "eval_model_preparation_time", "epoch")
_IGNORED = -100  # a label that cross entropy leaves out


class TransformersCallback(TrainerCallback):
    """Has dashboards see and steer what a Trainer trains: `Trainer(..., callbacks=[finetui.TransformersCallback()])`.

    Each `train` is a run in `runs_dir`, called `name` (by default date, script and model). A step is a step of the
    optimizer. Commands are obeyed between steps; in several processes by all of them at the same one. Loss, accuracy
    and what an evaluation says of each image are read from what the network returns (`loss`, `logits`) and is given
    (`labels`). `classes` are the names of the classes, by default those of the network's configuration. `config` are
    settings to be kept with the run.

    Given to the Trainer when it is made, it also learns of an exception that ends the training.
    """

    def __init__(
        self,
        *,
        name: str = "",
        runs_dir: str | Path = "checkpoints",
        classes: Sequence[str] | None = None,
        config: Mapping[str, Any] | None = None,
    ) -> None:
        self._given: dict[str, Any] = {"name": name, "runs_dir": runs_dir, "config": config}
        self._classes = list(classes) if classes is not None else None
        self._run: SharedRun | None = None

    # -- the run ----------------------------------------------------------------------------------------

    @harmless
    def on_init_end(self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **_: Any) -> None:
        """Have `train` end the run where it raises: no callback is told of that."""
        trainer = _trainer()
        if trainer is not None:
            trainer.train = self._ending(trainer.train)

    def _ending(self, train: Callable[..., Any]) -> Callable[..., Any]:
        @functools.wraps(train)
        def watched(*args: Any, **kwargs: Any) -> Any:
            try:
                return train(*args, **kwargs)
            except BaseException as error:
                self._close(error)
                raise
            finally:
                self._close(None)

        return watched

    @harmless
    def on_train_begin(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any
    ) -> None:
        """Open a run."""
        self._close(RuntimeError("the Trainer began to train anew"))  # with smaller batches, say
        self._trainer = _trainer()
        model, loader = kwargs["model"], kwargs["train_dataloader"]
        wrapped = self._trainer.model_wrapped if self._trainer is not None else model
        ranks = ranks_of(args.world_size)
        if ranks is None:
            return
        epochs = state.num_train_epochs or 0
        run = SharedRun(
            ranks,
            wrapped,
            _bare(kwargs["optimizer"]),
            about=lambda: {
                "epochs": epochs if epochs > 0 else None,
                "steps_per_epoch": -(-state.max_steps // epochs) if epochs > 0 and state.max_steps > 0 else None,
                "classes": self._classes or _labels(model) or classes_of(loader),
            },
            evaluate=self._evaluate if _evaluates(self._trainer) else None,
            save=self._save if self._trainer is not None else None,
            **self._given,
        )
        alone = ranks.world * args.gradient_accumulation_steps == 1
        self._steps = _Steps(model, run, Validation(ranks, "batch"), alone)
        self._asked = False
        self._run = run
        run.__enter__()
        run.begin(loader, shape=_shape(model))

    @harmless
    def on_train_end(self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **_: Any) -> None:
        """End the run: finished, or stopped."""
        self._close(None)

    @harmless
    def _close(self, error: BaseException | None) -> None:
        run, self._run = self._run, None
        if run is not None:
            self._steps.close()
            self._trainer = None
            run.close(error)

    # -- steps ------------------------------------------------------------------------------------------

    @harmless
    def on_epoch_begin(self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **_: Any) -> None:
        """Let the next epoch begin."""
        if self._run is not None:
            self._run.epoch(int(state.epoch or 0) + 1)

    @harmless
    def on_step_begin(self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **_: Any) -> None:
        """Obey before the first step; every other time it is done at the end of the one before."""
        if self._run is not None and not self._asked:
            self._asked = True
            self._obey(self._run, control)

    @harmless
    def on_step_end(self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **_: Any) -> None:
        """Count a step, and obey."""
        if self._run is not None:
            self._steps.ended()
            self._obey(self._run, control)

    @harmless
    def on_log(
        self,
        args: TrainingArguments,
        state: TrainerState,
        control: TrainerControl,
        logs: Mapping[str, Any] | None = None,
        **_: Any,
    ) -> None:
        """Show the numbers that the Trainer logs; its loss only where the network returns none."""
        if self._run is None or logs is None or not self._asked:
            return
        known = ("learning_rate", "grad_norm", "epoch", *(("loss",) if self._steps.told_loss else ()))
        rest = {
            key: value for key, value in logs.items() if key not in known and not key.startswith(("eval_", "train_"))
        }
        self._run.log(**{str(key): value for key, value in rest.items() if isinstance(value, int | float)})

    def _obey(self, run: SharedRun, control: TrainerControl) -> None:
        if not run.before_step():
            control.should_training_stop = True

    def _evaluate(self) -> None:
        assert self._trainer is not None, "it is only called where there is one"
        with _unseen(self._trainer, self):
            self._trainer.evaluate()

    def _save(self, path: Path) -> None:
        assert self._trainer is not None, "it is only called where there is one"
        self._trainer.save_model(str(path.with_suffix("")), _internal_call=True)  # a folder; nothing is pushed to a hub

    # -- evaluations ------------------------------------------------------------------------------------

    @harmless
    def on_evaluate(
        self,
        args: TrainingArguments,
        state: TrainerState,
        control: TrainerControl,
        metrics: Mapping[str, Any] | None = None,
        **kwargs: Any,
    ) -> None:
        """Tell what an evaluation came to."""
        if self._run is not None:
            told = {name: value for name, value in (metrics or {}).items() if name not in _UNSAID}
            tell(self._run, self._steps.validation, kwargs.get("eval_dataloader"), told)

    @harmless
    def on_prediction_step(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **_: Any
    ) -> None:
        """Collect what was said of a batch of an evaluation."""
        if self._run is not None:
            self._steps.predicted()

    @harmless
    def on_predict(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, metrics: Any = None, **_: Any
    ) -> None:
        """Forget what was predicted of other images."""
        if self._run is not None:
            self._steps.validation.begin()


class _Steps:
    """Reads what the network is given and returns, in steps and in evaluations, while it is open.

    `alone` tells that a step is a single batch.
    """

    def __init__(self, model: nn.Module, run: SharedRun, validation: Validation, alone: bool) -> None:
        self._alone = alone
        self.validation = validation
        self.told_loss = False
        self._run = run
        self._losses: list[Tensor] = []
        self._right: list[Tensor] = []
        self._samples = 0
        self._last: tuple[Tensor | None, Tensor | None, Any] = (None, None, None)  # of a pass that trains nothing
        self._handle = model.register_forward_hook(self._seen, with_kwargs=True)

    def close(self) -> None:
        """Look no more."""
        self._handle.remove()

    @harmless
    def predicted(self) -> None:
        """Collect the last pass, which was one of an evaluation; others are nobody's business."""
        last, self._last = self._last, (None, None, None)
        self.validation.add(*last)

    @harmless
    def ended(self) -> None:
        """Log a step of the optimizer."""
        run = self._run
        if self._losses:
            self.told_loss = True
            run.log(loss=mean(self._losses))
        if self._right:
            run.log(accuracy=sum(self._right[1:], self._right[0]) / max(self._samples, 1))
        run.after_step(self._samples * run.ranks.world)
        self._losses, self._right, self._samples = [], [], 0

    @harmless
    def _seen(self, module: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any], output: Any) -> None:
        labels, images = labels_in(kwargs), images_in(kwargs)
        count = len(labels) if labels is not None else 0
        scores = scores_in(output, count)
        if not module.training:
            self._last = scores, labels, images
            return
        self._samples += count or (len(images) if isinstance(images, Tensor) else 0)
        loss = output.get("loss") if isinstance(output, Mapping) else getattr(output, "loss", None)
        if isinstance(loss, Tensor) and loss.numel() == 1:
            if not self._alone and "num_items_in_batch" in kwargs and scores is not None and labels is not None:
                # Some networks divide their loss by the images of all batches of the step, and some do not.
                loss = _mean_loss(scores.detach().float(), labels, loss.detach())
            self._losses.append(loss.detach().clone())
        if scores is not None and labels is not None:
            self._right.append((scores.detach().argmax(1) == labels).sum())


def _mean_loss(scores: Tensor, labels: Tensor, otherwise: Tensor) -> Tensor:
    """Return the cross entropy; `otherwise` where labels are none of classes. Nothing waits for the device."""
    ignored = labels == _IGNORED
    fits = ((labels >= 0) & (labels < scores.shape[1])) | ignored
    found = functional.cross_entropy(scores, labels.long().where(fits, _IGNORED), ignore_index=_IGNORED)
    return found.where(fits.all(), otherwise.reshape(()).to(found))


def _trainer() -> Trainer | None:
    """Return the Trainer that is calling a callback, which is told everything but that; None where it is not seen."""
    frame = sys._getframe(1)
    for _ in range(10):
        found = frame.f_locals.get("self")
        if isinstance(found, Trainer):
            return found
        if frame.f_back is None:
            break
        frame = frame.f_back
    return None


@contextmanager
def _unseen(trainer: Trainer, callback: TrainerCallback) -> Iterator[None]:
    """Let nobody but `callback` see an evaluation within; the Trainer's own history and plans stay as they are."""
    handler = trainer.callback_handler
    callbacks, control, state = handler.callbacks, vars(trainer.control).copy(), vars(trainer.state).copy()
    history = list(trainer.state.log_history)
    handler.callbacks = [callback]
    try:
        yield
    finally:
        handler.callbacks = callbacks
        vars(trainer.control).update(control)
        vars(trainer.state).update(state)
        trainer.state.log_history[:] = history


def _evaluates(trainer: Trainer | None) -> bool:
    return trainer is not None and trainer.eval_dataset is not None


def _bare(optimizer: Any) -> list[Optimizer]:
    """Return the optimizer within accelerate's, which is none that torch's hooks see."""
    inner = getattr(optimizer, "optimizer", optimizer)
    return [inner] if isinstance(inner, Optimizer) else []


def _labels(model: nn.Module) -> list[str] | None:
    """Return the names of the classes that the network's configuration has; None for LABEL_0 and so on."""
    names = getattr(getattr(model, "config", None), "id2label", None)
    if not isinstance(names, Mapping) or not names or all(str(name).startswith("LABEL_") for name in names.values()):
        return None
    return [str(names[place]) for place in sorted(names)]


def _shape(model: nn.Module) -> tuple[int, ...]:
    """Return channels, height and width of an image, where the network's configuration tells them."""
    config = getattr(model, "config", None)
    channels, size = getattr(config, "num_channels", None), getattr(config, "image_size", None)
    return (channels, size, size) if isinstance(channels, int) and isinstance(size, int) else ()
