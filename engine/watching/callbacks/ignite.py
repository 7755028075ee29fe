"""`finetui.IgniteHandler`: what an Ignite Engine trains on dashboards, and steered by them."""

import copy
import functools
from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Self

from ignite import distributed as idist
from ignite.engine import Engine, Events
from ignite.metrics import Metric
from torch import Tensor, nn
from torch.optim import Optimizer

from finetui.engine.watching.callbacks.guard import harmless
from finetui.engine.watching.callbacks.validation import (
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

# What a run changes of an Engine.
_OF_EVALUATOR = (
    "state",
    "should_terminate",
    "should_terminate_single_epoch",
    "should_interrupt",
    "_event_handlers",
    "_dataloader_iter",
    "_dataloader_len",
    "_internal_run_generator",
    "last_event_name",
)


class IgniteHandler:
    """Has dashboards see and steer what an Engine trains: `finetui.IgniteHandler(model, optimizer).attach(trainer)`.

    Each `run` of the trainer is a run in `runs_dir`, called `name` (by default date, script and model). A step is one
    of the optimizer, or of several in one iteration. Commands are obeyed between steps; in several processes by
    all of them at the same one. `trainer.state.output` is the loss, or has it: the first number of a tuple, `loss` of a
    mapping; or it is what `output_transform` makes of it, a mapping of metrics.

    What an `evaluator` says of each image is shown where its output is `(scores, labels)`, as that of
    `create_supervised_evaluator`, and its metrics in any case. With a `val_loader`, evaluations of other data are left
    out, and a dashboard can ask for one. `classes` are the names of the classes, by default those of the data set;
    `save(path)` writes a checkpoint, by default the state dicts of model and optimizer; `config` are settings to be
    kept with the run.
    """

    def __init__(
        self,
        model: nn.Module,
        optimizer: Optimizer | Sequence[Optimizer],
        *,
        evaluator: Engine | None = None,
        val_loader: Any = None,
        output_transform: Callable[[Any], Mapping[str, Any]] | None = None,
        name: str = "",
        runs_dir: str | Path = "checkpoints",
        classes: Sequence[str] | None = None,
        save: Callable[[Path], Any] | None = None,
        config: Mapping[str, Any] | None = None,
    ) -> None:
        self._model = model
        self._optimizers = [optimizer] if isinstance(optimizer, Optimizer) else list(optimizer)
        self._evaluator, self._val_loader = evaluator, val_loader
        self._metrics_of = output_transform or _metrics_in
        self._given: dict[str, Any] = {"name": name, "runs_dir": runs_dir, "save": save, "config": config}
        self._classes = list(classes) if classes is not None else None
        self._run: SharedRun | None = None

    def attach(self, trainer: Engine) -> Self:
        """Watch whatever `trainer` runs from here on."""
        trainer.add_event_handler(Events.STARTED, self._started)
        trainer.add_event_handler(Events.EPOCH_STARTED, self._epoch_started)
        trainer.add_event_handler(Events.ITERATION_STARTED, self._iteration_started)
        trainer.add_event_handler(Events.ITERATION_COMPLETED, self._iteration_completed)
        trainer.add_event_handler(Events.COMPLETED, self._completed)
        # Not EXCEPTION_RAISED: an Engine that has a handler of it raises nothing any more.
        trainer.run = self._ending(trainer.run)
        if self._evaluator is not None:
            self._evaluator.add_event_handler(Events.STARTED, self._validation_started)
            self._evaluator.add_event_handler(Events.ITERATION_COMPLETED, self._validated)
            self._evaluator.add_event_handler(Events.COMPLETED, self._validation_completed)
        return self

    def _ending(self, run: Callable[..., Any]) -> Callable[..., Any]:
        @functools.wraps(run)
        def watched(*args: Any, **kwargs: Any) -> Any:
            try:
                return run(*args, **kwargs)
            except BaseException as error:
                self._close(error)
                raise
            finally:
                self._close(None)

        return watched

    # -- the run ----------------------------------------------------------------------------------------

    @harmless
    def _started(self, trainer: Engine) -> None:
        self._close(RuntimeError("the trainer began anew"))
        ranks = ranks_of(idist.get_world_size())
        if ranks is None:
            return
        loader, epochs = trainer.state.dataloader, trainer.state.max_epochs
        self._validation = Validation(ranks, "image")
        self._losses: dict[str, list[Any]] = {}
        self._samples = 0
        self._stepped = self._asked = False
        self._handles = [one.register_step_post_hook(self._optimizer_stepped) for one in self._optimizers]
        self._run = SharedRun(
            ranks,
            self._model,
            self._optimizers,
            about=lambda: {"epochs": epochs, "classes": self._classes or classes_of(loader)},
            evaluate=self._evaluate if self._evaluator is not None and self._val_loader is not None else None,
            **self._given,
        )
        self._run.__enter__()

    @harmless
    def _completed(self, trainer: Engine) -> None:
        self._close(None)

    @harmless
    def _close(self, error: BaseException | None) -> None:
        run, self._run = self._run, None
        if run is not None:
            for handle in self._handles:
                handle.remove()
            run.close(error)

    # -- steps ------------------------------------------------------------------------------------------

    @harmless
    def _optimizer_stepped(self, *_: Any) -> None:
        self._stepped = True

    @harmless
    def _epoch_started(self, trainer: Engine) -> None:
        if self._run is not None and self._asked:
            self._run.epoch(trainer.state.epoch)

    @harmless
    def _iteration_started(self, trainer: Engine) -> None:
        """Obey before the first step; every other time it is done at the end of the one before."""
        if self._run is not None and not self._asked:
            self._asked = True
            self._begin(trainer, self._run)
            self._obey(trainer, self._run)

    @harmless
    def _begin(self, trainer: Engine, run: SharedRun) -> None:
        run.begin(trainer.state.dataloader, images_in(trainer.state.batch))
        run.epoch(trainer.state.epoch)

    @harmless
    def _iteration_completed(self, trainer: Engine) -> None:
        run = self._run
        if run is None:
            return
        self._look_at(trainer, run)
        if not self._stepped:  # gradients are being accumulated
            return
        self._stepped = False
        samples, self._samples = self._samples, 0
        run.after_step(samples * run.ranks.world)
        self._obey(trainer, run)

    @harmless
    def _look_at(self, trainer: Engine, run: SharedRun) -> None:
        self._samples += count_in(trainer.state.batch)
        for name, value in self._metrics_of(trainer.state.output).items():
            waits = isinstance(value, Tensor) and not self._stepped  # and may be changed in place meanwhile
            self._losses.setdefault(name, []).append(value.detach().clone() if waits else value)
        if self._stepped:
            self._log(trainer, run)

    def _log(self, trainer: Engine, run: SharedRun) -> None:
        losses, self._losses = self._losses, {}
        metrics = {name: mean(values) for name, values in losses.items()}
        if run.point_due:
            metrics = _numbers(trainer.state.metrics) | metrics
        run.log(**named(metrics))

    def _obey(self, trainer: Engine, run: SharedRun) -> None:
        if not run.before_step():
            trainer.terminate()

    # -- evaluations ------------------------------------------------------------------------------------

    def _evaluate(self) -> None:
        assert self._evaluator is not None, "it is only called where there is one"
        with _unseen(self._evaluator, self):
            self._evaluator.run(self._val_loader)

    def _counts(self, evaluator: Engine) -> bool:
        return self._run is not None and self._val_loader in (None, evaluator.state.dataloader)

    @harmless
    def _validation_started(self, evaluator: Engine) -> None:
        if self._counts(evaluator):
            self._validation.begin()

    @harmless
    def _validated(self, evaluator: Engine) -> None:
        if not self._counts(evaluator):
            return
        output, batch = evaluator.state.output, evaluator.state.batch
        labels = labels_in(output)
        labels = labels if labels is not None else labels_in(batch)
        self._validation.add(scores_in(output, len(labels) if labels is not None else 0), labels, images_in(batch))

    @harmless
    def _validation_completed(self, evaluator: Engine) -> None:
        if self._run is not None and self._counts(evaluator):
            tell(self._run, self._validation, evaluator.state.dataloader, _numbers(evaluator.state.metrics))


@contextmanager
def _unseen(evaluator: Engine, handler: IgniteHandler) -> Iterator[None]:
    """Let nobody but metrics and `handler` see what `evaluator` runs within; its state is as before afterwards."""
    before = {name: getattr(evaluator, name) for name in _OF_EVALUATOR if hasattr(evaluator, name)}
    seeing = {
        event: [one for one in added if isinstance(owner := _owner(one[0]), Metric) or owner is handler]
        for event, added in evaluator._event_handlers.items()
    }
    evaluator._event_handlers = defaultdict(list, seeing)
    evaluator.state = copy.copy(evaluator.state)
    for name, value in vars(evaluator.state).items():  # metrics, times
        setattr(evaluator.state, name, value.copy() if type(value) is dict else value)
    try:
        yield
    finally:
        for name, value in before.items():
            setattr(evaluator, name, value)


def _owner(handler: Any) -> Any:
    """Return the object that an Engine's `handler` is a method of; a filtered event has it wrapped."""
    parent = getattr(handler, "_parent", None)
    return getattr(parent() if parent is not None else handler, "__self__", None)


def _metrics_in(output: Any) -> dict[str, Any]:
    """Return the numbers in the output of a trainer, by their names."""
    if isinstance(output, Mapping):
        return _numbers(output)
    values = output if isinstance(output, tuple | list) else (output,)
    return next(({"loss": value} for value in values if _is_number(value)), {})


def _numbers(metrics: Mapping[str, Any]) -> dict[str, Any]:
    return {
        name: value.detach() if isinstance(value, Tensor) else value
        for name, value in metrics.items()
        if _is_number(value)
    }


def _is_number(value: Any) -> bool:
    return value.numel() == 1 if isinstance(value, Tensor) else isinstance(value, int | float)
