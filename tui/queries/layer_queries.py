"""The questions of the Layers screen: one look into a layer at a time, and measures again and again."""

import time
from collections.abc import Callable
from typing import NamedTuple

from finetui.engine.protocol.commands import AnyQuestion, AuditParameters, MeasureLayers, ViewLayer
from finetui.engine.protocol.events import CommandRefused, LayersMeasured, LayerView, ParametersAudited
from finetui.tui.queries.asker import Asker, Reply
from finetui.tui.state.audited import paths_of_wrong

PAGE = 32  # images in one question
_REMEMBERED = 12  # pages
_MEASURE_SECONDS = 0.5  # from an answer to the next question
_REFUSED_SECONDS = 5.0


class Look(NamedTuple):
    """What is looked at: `view`, one of `LAYER_VIEWS`, of the module at `path`, for test image `image`."""

    path: str
    view: str
    image: int

    @property
    def is_paged(self) -> bool:
        """Whether it is images, a page of which comes with each answer."""
        return self.view in ("filters", "feature-maps")


class LayerQueries:
    """Asks about one `Look` at a time; `on_reply` hears the answers to that, and no late ones to others."""

    def __init__(self, asker: Asker, on_reply: Callable[[Reply], None]) -> None:
        self._asker = asker
        self._on_reply = on_reply
        self._look: Look | None = None
        self._asked: dict[int, ViewLayer] = {}  # by the page's number
        self._answered_pages: list[int] = []
        self._total = 0  # images, as the first answer says

    @property
    def is_waiting(self) -> bool:
        """Whether an answer is still to come."""
        return bool(self._asked)

    def look(self, look: Look | None) -> None:
        """Ask for the (first page of the) `look`, and forget what was asked for before; None asks for nothing."""
        for question in self._asked.values():
            self._asker.forget(question)
        self._asked.clear()
        self._answered_pages.clear()
        self._total = 0
        self._look = look
        if look is not None:
            self._ask(look, 0)

    def need(self, first: int, last: int) -> None:
        """Ask for the pages with the images `first` to `last` that are neither known nor on their way yet."""
        if self._look is None or not self._look.is_paged:
            return
        pages = range(first // PAGE, min(last, self._total - 1) // PAGE + 1)
        missing = [page for page in pages if page not in self._asked and page not in self._answered_pages]
        if not missing and not self._asked:
            missing = list(pages)  # whoever shows them did not keep them
        for page in missing:
            self._ask(self._look, page)

    def _ask(self, look: Look, page: int) -> None:
        question = ViewLayer(layer=look.path, view=look.view, index=look.image, first=page * PAGE, count=PAGE)
        self._asked[page] = question
        self._asker.ask(question, lambda reply: self._answered(page, reply))

    def _answered(self, page: int, reply: Reply) -> None:
        # A question that was forgotten is never answered here.
        del self._asked[page]
        self._answered_pages = [*self._answered_pages, page][-_REMEMBERED:]
        if isinstance(reply, LayerView):
            self._total = reply.total
        self._on_reply(reply)


class MeasureLoop:
    """Has the layers measured again and again, one question at a time; `then` hears each answer."""

    def __init__(self, asker: Asker, then: Callable[[LayersMeasured], None]) -> None:
        self._asker = asker
        self._then = then
        self._asked: AnyQuestion | None = None
        self._next_at = 0.0

    def tick(self) -> None:
        """Ask, if it is time. Call it often while measures are wanted."""
        if self._asked is None and time.monotonic() >= self._next_at:
            self._asked = MeasureLayers()
            self._asker.ask(self._asked, self._answered)

    def stop(self) -> None:
        """Wait for no answer any more."""
        if self._asked is not None:
            self._asker.forget(self._asked)
            self._asked = None

    def _answered(self, reply: Reply) -> None:
        self._asked = None
        self._next_at = time.monotonic() + (_REFUSED_SECONDS if isinstance(reply, CommandRefused) else _MEASURE_SECONDS)
        if isinstance(reply, LayersMeasured):
            self._then(reply)


class AuditQuery:
    """Has the parameters audited when somebody wants it; `then` is called when there is something else to say.

    `answer` is the last one, `problem` why there is none to the last question, and `until` the last step that the
    engine looks at for it.
    """

    def __init__(self, asker: Asker, then: Callable[[], None]) -> None:
        self._asker = asker
        self._then = then
        self._asked: AuditParameters | None = None
        self.answer: ParametersAudited | None = None
        self.problem = ""
        self.until = 0

    @property
    def is_waiting(self) -> bool:
        """Whether an answer is still to come."""
        return self._asked is not None

    @property
    def wrong(self) -> frozenset[str]:
        """The paths of modules that something is wrong in."""
        return frozenset() if self.answer is None else paths_of_wrong(self.answer.audit)

    def ask(self, why_not: str | None, step: int) -> None:
        """Ask after `step`, unless that was done; `why_not` says why it makes no sense now."""
        if self._asked is None and why_not is None:
            self._asked, self.problem = AuditParameters(), ""
            self.until = step + self._asked.steps
            self._asker.ask(self._asked, self._answered)
        elif self._asked is None:
            self.problem = f"the audit needs training steps, and {why_not}"

    def forget(self) -> None:
        """Know nothing, and wait for no answer any more."""
        if self._asked is not None:
            self._asker.forget(self._asked)
        self._asked, self.answer, self.problem = None, None, ""

    def _answered(self, reply: Reply) -> None:
        self._asked = None
        if isinstance(reply, ParametersAudited):
            self.answer = reply
        elif isinstance(reply, CommandRefused):
            self.problem = reply.reason
        self._then()
