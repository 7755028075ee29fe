"""Questions about the next training step, kept until it was taken."""

from finetui.engine.protocol.commands import AnyQuestion
from finetui.engine.protocol.events import CommandRefused, LayersMeasured, State
from finetui.engine.training.trainer import Trainer


class Measuring:
    """Those who wait for the gradients and updates of the layers."""

    def __init__(self) -> None:
        self._waiting: list[AnyQuestion] = []

    def add(self, question: AnyQuestion, trainer: Trainer) -> None:
        """Let `trainer` measure its next step for `question`."""
        self._waiting.append(question)
        trainer.measure_next()

    def answers(self, trainer: Trainer) -> list[LayersMeasured]:
        """Return the answers that the step just taken gives, if somebody waits for them."""
        if not self._waiting or not trainer.measures:
            return []
        found = trainer.measures
        gradients = {name: measure.gradient for name, measure in found.items() if measure.gradient is not None}
        updates = {name: measure.update for name, measure in found.items() if measure.update is not None}
        waiting, self._waiting = self._waiting, []
        return [LayersMeasured(command=question, gradients=gradients, updates=updates) for question in waiting]

    def refusals(self, state: State) -> list[CommandRefused]:
        """Return what to tell those who wait when the run becomes `state`: there may be no further step."""
        waiting, self._waiting = self._waiting, []
        return [CommandRefused(command=question, reason=f"the run is {state}") for question in waiting]
