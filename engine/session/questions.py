"""Questions to a session: answered between two training steps, without changing anything."""

from collections.abc import Callable

from finetui.engine.distributed.averaging import averaged_buffers
from finetui.engine.distributed.ranks import SINGLE, Ranks
from finetui.engine.inspection.answers import Answerer, Subject
from finetui.engine.protocol import events
from finetui.engine.protocol.commands import AnyQuestion, AuditParameters, MeasureLayers, PreviewFinetune
from finetui.engine.protocol.config import RunConfig
from finetui.engine.runs.reporter import Reporter
from finetui.engine.setup.prepared import Prepared
from finetui.engine.setup.preview import preview
from finetui.engine.training.freeze_audit import FreezeAudit, check_steps
from finetui.engine.training.layer_meter import LayerMeter
from finetui.engine.training.trainer import Trainer

_OfSteps = events.ParametersAudited | events.LayersMeasured


class Questions:
    """Answers questions about what `prepared` holds and `trainer` trains; `reporter` emits the answers."""

    def __init__(
        self,
        prepared: Prepared,
        config: RunConfig,
        trainer: Trainer,
        reporter: Reporter,
        stopped: Callable[[], bool],
        ranks: Ranks = SINGLE,
    ) -> None:
        self._ranks = ranks
        self._prepared = prepared
        self._config = config
        self._trainer = trainer
        self._emit = reporter.emit
        self._of_steps: list[tuple[AnyQuestion, LayerMeter | FreezeAudit]] = []  # asked, with what looks at the steps
        subject = Subject(prepared.model, prepared.data, prepared.transform, prepared.architecture, prepared.device)
        self._answerer = Answerer(subject, reporter.progress, stopped)

    def ask(self, question: AnyQuestion, run: str) -> None:
        """Answer `question`, about the run called `run`; what is asked of the next steps is answered after them."""
        if isinstance(question, MeasureLayers | AuditParameters):
            observer = self._observer(question)
            self._of_steps.append((question, observer))
            self._trainer.observers.append(observer)
        else:
            with averaged_buffers(self._ranks, self._prepared.model):
                self._ranks.alone(lambda: self._answer(question, run))
        self._trainer.restart_clock()

    def _answer(self, question: AnyQuestion, run: str) -> None:
        if isinstance(question, PreviewFinetune):
            prepared = self._prepared
            weights = prepared.model.state_dict()
            self._emit(preview(question, self._config, prepared.about(run), weights, prepared.data.channels))
        else:
            self._emit(self._answerer.answer(question))

    def changed(self, config: RunConfig) -> None:
        """Answer for a run that is configured by `config` from here on."""
        self._config = config

    def _observer(self, question: MeasureLayers | AuditParameters) -> LayerMeter | FreezeAudit:
        trainer = self._trainer
        if isinstance(question, MeasureLayers):
            return LayerMeter([layer for group in trainer.groups for layer in group.layers])
        check_steps(question.steps)
        return FreezeAudit(
            trainer.model,
            lambda: (trainer.optimizer,),
            question.steps,
            lambda: trainer.freezer.claims(),
            looks_inside=trainer.training.compile == "off",
        )

    def stepped(self) -> None:
        """Answer what was asked of the steps that are over."""
        if not self._of_steps:
            return
        for question, observer in [pair for pair in self._of_steps if pair[1].done]:
            self._end(question, observer)
            self._emit(_answer_of(question, observer))

    def _end(self, question: AnyQuestion, observer: LayerMeter | FreezeAudit) -> None:
        self._of_steps.remove((question, observer))
        self._trainer.observers.remove(observer)

    def entered(self, state: events.State) -> None:
        """Answer by the steps that there were, or refuse what waits for one: in `state` there may be none."""
        for question, observer in self._of_steps.copy():
            self._end(question, observer)
            # A device that has failed cannot be asked any more.
            if isinstance(observer, FreezeAudit) and observer.taken and state != "failed":
                self._emit(_answer_of(question, observer))
            else:
                observer.stop()
                self._emit(events.CommandRefused(command=question, reason=f"the run is {state}"))


def _answer_of(question: AnyQuestion, observer: LayerMeter | FreezeAudit) -> _OfSteps:
    if isinstance(observer, FreezeAudit):
        return events.ParametersAudited(command=question, audit=observer.result())
    found = observer.measures
    gradients = {name: measure.gradient for name, measure in found.items() if measure.gradient is not None}
    updates = {name: measure.update for name, measure in found.items() if measure.update is not None}
    return events.LayersMeasured(command=question, gradients=gradients, updates=updates)
