"""Questions to a session: answered between two training steps, without changing anything."""

from collections.abc import Callable

from finetui.engine.distributed.averaging import averaged_buffers
from finetui.engine.distributed.ranks import SINGLE, Ranks
from finetui.engine.inspection.answers import Answerer, Subject
from finetui.engine.protocol import events
from finetui.engine.protocol.commands import AnyQuestion, MeasureLayers, PreviewFinetune
from finetui.engine.protocol.config import RunConfig
from finetui.engine.runs.reporter import Reporter
from finetui.engine.setup.prepared import Prepared
from finetui.engine.setup.preview import preview
from finetui.engine.training.trainer import Trainer


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
        self._about_next_step: list[MeasureLayers] = []
        subject = Subject(prepared.model, prepared.data, prepared.transform, prepared.architecture, prepared.device)
        self._answerer = Answerer(subject, reporter.progress, stopped)

    def ask(self, question: AnyQuestion, run: str) -> None:
        """Answer `question`, about the run called `run`; what is asked of the next step is answered after it."""
        if isinstance(question, MeasureLayers):
            self._about_next_step.append(question)
            self._trainer.measure_next()
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

    def stepped(self) -> None:
        """Answer what was asked of the step just taken, if it was measured."""
        found = self._trainer.measures
        if not self._about_next_step or not found:
            return
        gradients = {name: measure.gradient for name, measure in found.items() if measure.gradient is not None}
        updates = {name: measure.update for name, measure in found.items() if measure.update is not None}
        waiting, self._about_next_step = self._about_next_step, []
        for question in waiting:
            self._emit(events.LayersMeasured(command=question, gradients=gradients, updates=updates))

    def entered(self, state: events.State) -> None:
        """Refuse what waits for a step: once the run becomes `state` there may be none."""
        waiting, self._about_next_step = self._about_next_step, []
        for question in waiting:
            self._emit(events.CommandRefused(command=question, reason=f"the run is {state}"))
