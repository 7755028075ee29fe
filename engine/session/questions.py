"""Questions to a session: answered between two training steps, without changing anything."""

from collections.abc import Callable

from finetui.engine.inspection.answers import Answerer, Subject
from finetui.engine.protocol import events
from finetui.engine.protocol.commands import AnyQuestion, MeasureLayers, PreviewFinetune
from finetui.engine.protocol.config import RunConfig
from finetui.engine.session.measuring import Measuring
from finetui.engine.setup.prepare import Prepared
from finetui.engine.setup.preview import preview
from finetui.engine.training.trainer import Trainer

Emit = Callable[[events.AnyEvent], None]


class Questions:
    """Answers questions about what `prepared` holds and `trainer` trains; `emit` is given the answers."""

    def __init__(
        self,
        prepared: Prepared,
        config: RunConfig,
        trainer: Trainer,
        emit: Emit,
        progress: Callable[[str, int, int], None],
        stopped: Callable[[], bool],
    ) -> None:
        self._prepared = prepared
        self._config = config
        self._trainer = trainer
        self._emit = emit
        self._measuring = Measuring()
        subject = Subject(prepared.model, prepared.data, prepared.transform, prepared.architecture, prepared.device)
        self._answerer = Answerer(subject, progress, stopped)

    def ask(self, question: AnyQuestion, run: str) -> None:
        """Answer `question`, about the run called `run`; what is asked of the next step is answered after it."""
        match question:
            case PreviewFinetune():
                prepared = self._prepared
                weights = prepared.model.state_dict()
                self._emit(preview(question, self._config, prepared.about(run), weights, prepared.data.channels))
            case MeasureLayers():
                self._measuring.add(question, self._trainer)
            case _:
                self._emit(self._answerer.answer(question))
        self._trainer.restart_clock()

    def stepped(self) -> None:
        """Answer what was asked of the step just taken."""
        for answer in self._measuring.answers(self._trainer):
            self._emit(answer)

    def entered(self, state: events.State) -> None:
        """Refuse what waits for a step, where none will come."""
        for refused in self._measuring.refusals(state):
            self._emit(refused)
