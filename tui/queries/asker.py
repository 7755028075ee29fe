"""Questions to the engine, and who waits for which answer."""

import copy
from collections.abc import Callable

from finetui.engine.link.base import Link
from finetui.engine.protocol.commands import AnyQuestion, Evaluate
from finetui.engine.protocol.events import Answer, AnyEvent, CommandAccepted, CommandRefused, StateChanged

Reply = Answer | CommandRefused
Asked = AnyQuestion | Evaluate


class Asker:
    """Sends questions over a link and hands each answer to whoever asked; other people's answers go unheard.

    Whoever drains the link's events passes them to `deliver`.
    """

    def __init__(self, link: Link) -> None:
        self._link = link
        self._waiting: dict[str, tuple[Asked, Callable[[Reply], None]]] = {}
        self._listens: Callable[[], bool] = lambda: True

    def heard_while(self, listens: Callable[[], bool]) -> "Asker":
        """Return this asker for a screen: an answer that comes when it does not `listens()` any more is dropped."""
        asker = copy.copy(self)
        asker._listens = listens
        return asker

    def ask(self, question: Asked, then: Callable[[Reply], None]) -> None:
        """Send `question`; `then` is called once, with its answer or with the refusal that says why there is none.

        An evaluation is answered by its event, to everybody: `then` hears only of a refusal.
        """
        listens = self._listens
        self._waiting[question.id] = (question, lambda reply: then(reply) if listens() else None)
        self._link.send(question)

    def forget(self, question: Asked) -> None:
        """Do not wait for the answer to `question` any more."""
        self._waiting.pop(question.id, None)

    def deliver(self, event: AnyEvent) -> None:
        """Hand `event` on, if somebody waits for it."""
        if isinstance(event, Answer | CommandRefused):
            _, then = self._waiting.pop(event.command.id, (None, None))
            if then is not None:
                then(event)
        elif isinstance(event, CommandAccepted):
            self._waiting.pop(event.command.id, None)
        elif isinstance(event, StateChanged) and event.state in ("failed", "crashed"):
            # Whoever could have answered is gone.
            waiting = [*self._waiting.values()]
            self._waiting.clear()
            for question, then in waiting:
                then(CommandRefused(command=question, reason=event.reason or "the engine is gone"))
