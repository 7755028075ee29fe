"""The questions about a layer: which are sent, and which answers are heard."""

import pytest
from canned import CannedLink

from finetui.engine.protocol.commands import MeasureLayers, ViewLayer
from finetui.engine.protocol.events import CommandRefused, LayersMeasured, LayerView
from finetui.tui.queries import layer_queries
from finetui.tui.queries.asker import Asker, Reply
from finetui.tui.queries.layer_queries import PAGE, LayerQueries, Look, MeasureLoop

FILTERS = Look("conv1", "filters", 0)


class Talk:
    """Layer queries, what they asked, and what was heard."""

    def __init__(self) -> None:
        self.link = CannedLink()
        self.asker = Asker(self.link)
        self.heard: list[Reply] = []
        self.asking = LayerQueries(self.asker, self.heard.append)

    @property
    def asked(self) -> list[ViewLayer]:
        return [command for command in self.link.sent if isinstance(command, ViewLayer)]

    @property
    def pages(self) -> list[int]:
        return [command.first // PAGE for command in self.asked]

    def answer(self, place: int, total: int = 1000) -> None:
        self.asker.deliver(LayerView(command=self.asked[place], shape=(1,), total=total))


def test_pages_are_asked_for_once_and_within_what_there_is() -> None:
    talk = Talk()
    talk.asking.look(FILTERS)
    talk.asking.need(0, 500)  # nobody knows yet how many there are
    assert talk.pages == [0]
    assert talk.asking.is_waiting
    talk.answer(0, total=3 * PAGE + 1)
    assert not talk.asking.is_waiting
    talk.asking.need(0, 10_000)
    talk.asking.need(0, 10_000)
    assert talk.pages == [0, 1, 2, 3]
    assert {(command.layer, command.view, command.count) for command in talk.asked} == {("conv1", "filters", PAGE)}
    talk.answer(2, total=3 * PAGE + 1)
    assert len(talk.heard) == 2


def test_pages_that_were_not_kept_are_asked_for_again() -> None:
    talk = Talk()
    talk.asking.look(FILTERS)
    talk.answer(0)
    talk.asking.need(0, PAGE - 1)
    assert talk.pages == [0, 0]


def test_answers_to_an_earlier_look_are_not_heard() -> None:
    talk = Talk()
    talk.asking.look(FILTERS)
    talk.asking.look(Look("conv2", "weights", 0))
    talk.answer(0)
    assert talk.heard == []
    talk.answer(1)
    assert len(talk.heard) == 1
    talk.asking.need(0, 100)  # a histogram has no pages
    assert len(talk.asked) == 2
    talk.asking.look(None)
    talk.asking.need(0, 100)
    assert len(talk.asked) == 2


def test_a_refusal_is_heard() -> None:
    talk = Talk()
    talk.asking.look(FILTERS)
    talk.asker.deliver(CommandRefused(command=talk.asked[0], reason="no"))
    assert [type(reply) for reply in talk.heard] == [CommandRefused]


def test_measures_are_asked_for_one_by_one_with_a_pause(monkeypatch: pytest.MonkeyPatch) -> None:
    now = 100.0
    monkeypatch.setattr(layer_queries.time, "monotonic", lambda: now)
    link = CannedLink()
    asker = Asker(link)
    heard: list[LayersMeasured] = []
    loop = MeasureLoop(asker, heard.append)
    loop.tick()
    now += 60
    loop.tick()
    assert [type(command) for command in link.sent] == [MeasureLayers]
    asker.deliver(LayersMeasured(command=link.sent[0], gradients={}, updates={}))
    assert len(heard) == 1
    now += 0.4
    loop.tick()
    assert len(link.sent) == 1
    now += 0.2
    loop.tick()
    assert len(link.sent) == 2
    asker.deliver(CommandRefused(command=link.sent[1], reason="the run is paused"))
    now += 4
    loop.tick()
    assert len(link.sent) == 2
    now += 2
    loop.tick()
    assert len(link.sent) == 3
    loop.stop()
    asker.deliver(LayersMeasured(command=link.sent[2], gradients={}, updates={}))
    assert len(heard) == 1
