import threading
import time

from finetui.engine.protocol.commands import Pause, Stop
from finetui.engine.protocol.events import Log, Phase
from finetui.engine.protocol.queues import CommandQueue, EventQueue


def test_the_oldest_coalescible_event_makes_room_and_results_never_go() -> None:
    queue = EventQueue(limit=4)
    for i in range(3):
        queue.put(Log(level="info", message=str(i)))
    for i in range(10):
        queue.put(Phase(name=str(i)))
    for i in range(3, 9):
        queue.put(Log(level="info", message=str(i)))
    events = queue.drain()
    assert [event.message for event in events if isinstance(event, Log)] == [str(i) for i in range(9)]
    assert [event.name for event in events if isinstance(event, Phase)] == []
    assert queue.dropped == 10


def test_a_short_queue_keeps_order_and_newest() -> None:
    queue = EventQueue(limit=3)
    for i in range(5):
        queue.put(Phase(name=str(i)))
    assert [event.name for event in queue.drain()] == ["2", "3", "4"]
    assert queue.drain() == []


def test_news_are_told_once_until_they_are_taken() -> None:
    queue, told = EventQueue(limit=3), []
    queue.on_news = lambda: told.append(len(queue))
    queue.put(Phase(name="a"))
    assert not told
    assert not queue.has_news
    queue.put(Log(level="info", message="b"))
    queue.put(Log(level="info", message="c"))
    queue.put(Phase(name="d"))  # makes room for itself, and none of the results goes
    assert told == [2]
    assert [type(event) for event in queue.drain(1)] == [Log]
    assert queue.has_news
    queue.drain()
    assert not queue.has_news
    queue.put(Log(level="info", message="e"))
    assert told == [2, 1]


def test_taking_a_command_waits_for_one() -> None:
    queue = CommandQueue()
    assert queue.take() is None
    command = Pause()
    threading.Timer(0.05, queue.put, [command]).start()
    started = time.monotonic()
    assert queue.take(wait=60) is command
    assert time.monotonic() - started < 50


def test_a_waiting_stop_is_seen_behind_other_commands() -> None:
    queue = CommandQueue()
    queue.put(Pause())
    assert not queue.stop_waits()
    queue.put(Stop())
    assert queue.stop_waits()
