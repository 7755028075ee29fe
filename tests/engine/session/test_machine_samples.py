"""What the machine does, in the journal of a run: while it goes on or pauses, and with no effect on what is trained."""

from pathlib import Path
from typing import Any

import pytest
from fake_nvml import FakeNvml

from finetui.engine.link import sockets
from finetui.engine.link.server import Server
from finetui.engine.machine import watch
from finetui.engine.machine.sampler import Sampler
from finetui.engine.machine.watch import MachineWatch
from finetui.engine.protocol.config import DataConfig, RunConfig, RunSection, TrainingConfig
from finetui.engine.protocol.events import AnyEvent, CheckpointSaved, MachineSample, RunStarted, StateChanged
from finetui.engine.protocol.queues import CommandQueue
from finetui.engine.runs.journal import JournalReader
from finetui.engine.session.session import Session


class _Busy(MachineWatch):
    """Has a sample for every event."""

    def __init__(self) -> None:
        super().__init__(lambda _sample: None)
        self._sampler = Sampler(nvml=FakeNvml(2))

    def due(self) -> MachineSample | None:
        self._sampler.folder = self._folder
        return MachineSample(machine=self._sampler.read(), seconds=10.0)


def _train(folder: Path, machine: MachineWatch | None) -> list[AnyEvent]:
    config = RunConfig(
        data=DataConfig(name="mnist-sample"),
        run=RunSection(name="one", runs_dir=str(folder)),
        training=TrainingConfig(epochs=1, batch_size=64),
    )
    Session(config, machine=machine).run()
    return list(JournalReader(folder / "one" / "journal.jsonl").read())


def test_samples_are_journaled_while_a_run_goes_on_and_change_nothing(tmp_path: Path) -> None:
    watched, plain = _train(tmp_path / "watched", _Busy()), _train(tmp_path / "plain", None)
    samples = [event for event in watched if isinstance(event, MachineSample)]
    assert samples and not [event for event in plain if isinstance(event, MachineSample)]
    assert [event.seq for event in watched] == list(range(len(watched)))
    assert samples[-1].step > samples[0].step >= 0
    assert samples[-1].machine.disk_free is not None and len(samples[-1].machine.gpus) == 2
    running = next(index for index, event in enumerate(watched) if getattr(event, "state", "") == "running")
    assert all(not isinstance(event, MachineSample) for event in watched[:running])
    assert isinstance(watched[-1], StateChanged) and watched[-1].state == "finished"
    weights = [[event.weights for event in run if isinstance(event, CheckpointSaved)] for run in (watched, plain)]
    assert weights[0] == weights[1] and weights[0][-1]
    assert any(isinstance(event, RunStarted) for event in watched)


def test_whoever_comes_later_is_told_of_the_machine_at_once_and_a_phase_goes_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from finetui.engine.link.frames import Hello
    from finetui.engine.link.server_client import Client
    from finetui.engine.protocol.events import Phase

    server = Server(sockets.new_path(), CommandQueue())
    heard: list[Any] = []
    monkeypatch.setattr(Client, "put", lambda _self, event, _frame: heard.append(event))
    live = MachineSample(machine=Sampler(nvml=FakeNvml()).read(), seconds=2.0)
    phase = Phase(name="Reading images")
    for event in (phase, live, MachineSample(machine=live.machine, seconds=10.0, seq=0)):
        server.publish(event)
    try:
        server._greet(Client(server._poller._listener, 0.0), Hello())
    finally:
        server.path.unlink()
    assert heard == [phase, live]


def test_the_thread_makes_its_looks_rarer_where_they_cost_more(monkeypatch: pytest.MonkeyPatch) -> None:
    spent = iter([0.0, 0.0001, 0.0, 0.003, 0.0, 9.0])
    waits: list[float] = []

    class Clock:
        thread_time = staticmethod(lambda: next(spent))
        monotonic = staticmethod(lambda: 0.0)
        time = staticmethod(lambda: 0.0)

    monkeypatch.setattr(watch, "time", Clock)
    looks = MachineWatch(lambda _sample: None, lambda: Sampler(nvml=FakeNvml()))
    monkeypatch.setattr(looks._ended, "wait", lambda seconds: waits.append(seconds) or len(waits) > 3)
    looks._watch()
    assert waits == [0.2, 2.0, pytest.approx(6.0), 30.0]
