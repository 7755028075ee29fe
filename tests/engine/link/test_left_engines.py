"""What an engine does that its dashboards leave, on purpose or not, or that nobody comes to."""

import time
from collections.abc import Callable

import msgspec
from watching import PATIENCE, Watcher, until

from finetui.engine.link.attach_link import AttachLink
from finetui.engine.link.base import Link
from finetui.engine.link.process_link import ProcessLink
from finetui.engine.protocol.commands import FetchImages, Pause
from finetui.engine.protocol.config import RunConfig
from finetui.engine.protocol.events import (
    Images,
    StateChanged,
    TrainPoint,
)
from finetui.engine.runs.journal import JournalReader
from finetui.engine.runs.summaries import summarise_run

Watch = Callable[[Link], Watcher]


def wait_until_it_leaves(link: ProcessLink) -> None:
    """Wait for the engine that `link` started to end; fail after a minute, a tenth of what one lingers by default."""
    until(lambda: link.status is not None)


def linger(config: RunConfig, seconds: float) -> RunConfig:
    return msgspec.structs.replace(config, run=msgspec.structs.replace(config.run, linger_minutes=seconds / 60))


def vanish(watcher: Watcher) -> None:
    """Leave without a goodbye, as the kernel does it for a killed dashboard."""
    watcher.link.vanish()
    watcher.thread.join(PATIENCE)
    assert not watcher.thread.is_alive()


def test_a_finished_engine_that_was_left_on_purpose_ends_at_once(make_config, watch: Watch) -> None:
    watcher = watch(ProcessLink(make_config(), autostart=True))
    watcher.until_state("finished")
    watcher.close()
    wait_until_it_leaves(watcher.link)


def test_a_finished_engine_whose_dashboard_vanished_waits_for_it_to_come_back(make_config, watch: Watch) -> None:
    watcher = watch(ProcessLink(linger(make_config(name="kept"), 600), autostart=True))
    watcher.until_state("finished")
    vanish(watcher)
    back = watch(AttachLink(watcher.folder))
    back.until_state("finished")
    back.link.send(FetchImages(indices=(3,)))
    back.until_kind(Images)
    assert watcher.link.status is None


def test_a_finished_engine_whose_dashboard_stays_away_leaves_in_the_end(make_config, watch: Watch) -> None:
    watcher = watch(ProcessLink(linger(make_config(name="kept"), 1), autostart=True))
    watcher.until_state("finished")
    vanished = time.monotonic()
    vanish(watcher)
    wait_until_it_leaves(watcher.link)
    assert time.monotonic() - vanished > 0.8


def test_an_engine_that_was_never_started_leaves_with_its_only_dashboard(make_config, watch: Watch) -> None:
    watcher = watch(ProcessLink(linger(make_config(), 600)))
    watcher.until_state("ready")
    vanish(watcher)
    wait_until_it_leaves(watcher.link)


def test_a_paused_run_that_nobody_watches_is_saved_and_stopped(make_config, watch: Watch) -> None:
    watcher = watch(ProcessLink(linger(make_config(epochs=1000, name="paused"), 1), autostart=True))
    watcher.until_kind(TrainPoint)
    watcher.link.send(Pause())
    paused = watcher.until_state("paused")
    closed = time.monotonic()
    watcher.close()
    wait_until_it_leaves(watcher.link)
    assert time.monotonic() - closed > 0.8
    folder = watcher.folder
    *_, last = JournalReader(folder.journal).read()
    assert isinstance(last, StateChanged)
    assert (last.state, last.step, last.reason) == ("stopped", paused.step, "nobody was connected to resume it")
    assert folder.last.is_file()


def test_a_detached_engine_trains_without_anybody_and_leaves(make_config, watch: Watch) -> None:
    watcher = watch(ProcessLink(linger(make_config(epochs=2, name="alone"), 600), autostart=True, detached=True))
    watcher.until_state("running")
    watcher.close()
    wait_until_it_leaves(watcher.link)
    summary = summarise_run(watcher.folder)
    assert summary is not None
    assert (summary.state, summary.epoch) == ("finished", 2)
