"""Freeze audits of a watched loop, for dashboards that ask for one."""

from typing import TYPE_CHECKING

from finetui.engine.errors import BadInput
from finetui.engine.protocol import events
from finetui.engine.protocol.commands import AuditParameters
from finetui.engine.training.audit_hooks import LoopAudit
from finetui.engine.training.freeze_audit import check_steps

if TYPE_CHECKING:
    from finetui.engine.watching.loop import Loop

_PATIENCE = 8  # batches for each step that was asked for: a loop may take one for several, and some take none at all


class Audits:
    """Answers for `loop`; nothing is looked at while nobody asks."""

    def __init__(self, loop: "Loop") -> None:
        self._loop = loop
        self._waiting: list[tuple[AuditParameters, LoopAudit, int]] = []  # with the step by which it is over

    @property
    def wait(self) -> bool:
        """Whether somebody waits for an answer."""
        return bool(self._waiting)

    def begin(self, question: AuditParameters) -> None:
        """Look at the steps from here on. Raises `BadInput`."""
        check_steps(question.steps)
        loop = self._loop
        assert loop.model is not None, "the question is only taken where there is a model"
        assert loop.layers is not None, "and so its layers"
        audit = LoopAudit(
            loop.model,
            lambda: loop.optimizers.there,
            question.steps,
            loop.layers.claims,
            looks_inside=not hasattr(loop.wrapped, "_orig_mod"),  # what is compiled does not tell what it calls
        )
        self._waiting.append((question, audit, loop.step + _PATIENCE * question.steps))

    def stepped(self) -> None:
        """Answer what is over with this step of the loop."""
        for question, audit, last in self._waiting.copy():
            if audit.done or self._loop.step >= last:
                self._loop.emit_point()  # the time of an answer is in none
                self._answer(question, audit)

    def end(self, why: str) -> None:
        """Answer for the steps that there were; refuse, because of `why`, where there was none."""
        for question, audit, _ in self._waiting.copy():
            self._answer(question, audit, "" if audit.taken else why)

    def _answer(self, question: AuditParameters, audit: LoopAudit, why_not: str = "") -> None:
        self._waiting = [waiting for waiting in self._waiting if waiting[1] is not audit]
        audit.finish()
        answer: events.ParametersAudited | events.CommandRefused
        try:
            if why_not:
                raise BadInput(why_not)
            answer = events.ParametersAudited(command=question, audit=audit.result)
        except BadInput as error:
            answer = events.CommandRefused(command=question, reason=str(error))
        self._loop.record.reporter.emit(answer)
        self._loop.meter.restart_clock()
