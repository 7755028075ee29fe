"""Runs that train from features: what is frozen is computed once, and everything else is as ever."""

import errno
from collections.abc import Callable
from pathlib import Path
from typing import Any

import msgspec
import pytest
import torch
from steered import assert_resumed_and_replayed_to_the_same_bits, at

from finetui.engine.protocol.commands import (
    ChangeTraining,
    Pause,
    Resume,
    RollBack,
    Save,
    SetFrozen,
    SetFrozenNorm,
    Stop,
)
from finetui.engine.protocol.config import FinetuneConfig, RunConfig
from finetui.engine.protocol.config_file import load
from finetui.engine.protocol.events import Evaluated, FeaturesChanged, Log, Phase, StateChanged, TrainPoint
from finetui.engine.protocol.queues import CommandQueue
from finetui.engine.runs.folder import RunFolder
from finetui.engine.runs.journal import JournalReader
from finetui.engine.session.replay import replay_run
from finetui.engine.session.session import Session
from finetui.engine.training.features import store
from finetui.engine.training.features.cache import FeatureCache
from finetui.engine.training.rules import CURRENT
from finetui.engine.training.trainer import Trainer

PARENT = Path(__file__).parents[3] / "checkpoints" / "lenet-mnist" / "last.ckpt"
BODY = ("conv1", "conv2")


@pytest.fixture
def probe(make_config) -> Callable[..., RunConfig]:
    """Return a maker of linear probes of the shipped LeNet on the bundled digits: 40 steps an epoch."""

    def make(recipe: str = "linear-probe", **settings: Any) -> RunConfig:
        data = settings.pop("data", {})
        config = make_config(**({"epochs": 3, "momentum": 0.9} | settings))
        return msgspec.structs.replace(
            config,
            data=msgspec.structs.replace(config.data, **data),
            finetune=FinetuneConfig(parent=str(PARENT), recipe=recipe),
        )

    return make


def weights(folder: RunFolder | None) -> dict[str, torch.Tensor]:
    assert folder is not None
    found: dict[str, torch.Tensor] = torch.load(folder.last, weights_only=True)["model"]
    return found


def apart(one: RunFolder | None, other: RunFolder | None) -> float:
    first, second = weights(one), weights(other)
    return max(float((first[name] - second[name]).abs().max()) for name in first)


def told(recorder) -> list[tuple[int, str]]:
    return [(event.step, event.state) for event in recorder.of(FeaturesChanged)]


@pytest.mark.parametrize(
    ("recipe", "loader"),
    [
        *((recipe, "resident") for recipe in ("linear-probe", "lp-ft", "gradual", "fastai")),
        ("gradual", "stream"),  # fills, holds and drops; what the others do with streamed images is part of it
        *(pytest.param(recipe, "stream", marks=pytest.mark.slow) for recipe in ("linear-probe", "lp-ft", "fastai")),
    ],
)
def test_every_recipe_trains_to_the_same_weights_as_without(recipe: str, loader: str, probe, recorder) -> None:
    settings = {"recipe": recipe, "epochs": 6, "lr": 0.002, "data": {"loader": loader, "workers": 1}}
    kept = Session(probe(**settings), sinks=[recorder]).run().folder
    plain = Session(probe(**settings, features="off")).run().folder
    assert apart(kept, plain) < 1e-5
    states = {event.state for event in recorder.of(FeaturesChanged)}
    assert states == {"linear-probe": {"filling", "held"}, "fastai": set()}.get(recipe, {"filling", "held", "dropped"})


def test_evaluations_have_the_bits_of_the_whole_network(probe, recorder) -> None:
    Session(probe(), sinks=[recorder]).run()
    plain = type(recorder)()
    Session(probe(features="off"), sinks=[plain]).run()
    found, expected = ([(e.loss, e.accuracy) for e in one.of(Evaluated)] for one in (recorder, plain))
    assert len(found) == 3
    assert found == expected


def test_it_says_what_is_held_and_what_an_epoch_takes_then(probe, recorder) -> None:
    Session(probe(), sinks=[recorder]).run()
    filling, held, measured = recorder.of(FeaturesChanged)
    assert (filling.state, filling.layers, filling.last) == ("filling", BODY, "conv2")
    images = filling.images
    assert (held.state, held.place, held.bytes) == ("held", "memory", 4 * 256 * images)
    assert held.seconds > 0
    assert held.epoch_seconds is None
    assert measured.epoch_seconds > 0
    assert any(phase.name == "Computing features" for phase in recorder.of(Phase))


def test_a_run_cut_within_an_epoch_goes_on_and_is_replayed_to_the_same_bits(probe) -> None:
    whole = Session(probe(name="whole")).run().folder
    cut = Session(probe(name="cut"), script=at((57, Stop()))).run().folder
    assert cut is not None
    assert torch.load(cut.last, weights_only=True)["training"]["features"]["layers"] == list(BODY)
    assert_resumed_and_replayed_to_the_same_bits(whole, cut)


def test_a_thaw_drops_them_at_once_and_a_replay_does_the_same(probe, recorder) -> None:
    thaw = (55, SetFrozen(groups=("conv2",), frozen=False))
    kept = Session(probe(name="kept"), script=at(thaw), sinks=[recorder]).run().folder
    plain = Session(probe(name="plain", features="off"), script=at(thaw)).run().folder
    assert (55, "dropped") in told(recorder)
    assert apart(kept, plain) < 1e-4
    assert not torch.equal(weights(kept)["conv2.weight"], weights(RunFolder(PARENT.parent))["conv2.weight"])
    assert replay_run(kept).different_at is None


def test_what_is_frozen_by_hand_is_computed_once_from_the_next_epoch_on(make_config, recorder) -> None:
    freeze = (15, SetFrozen(groups=("conv1", "conv2"), frozen=True))
    settings = {"epochs": 4, "lr": 0.002}
    kept = Session(make_config(name="kept", **settings), script=at(freeze), sinks=[recorder]).run().folder
    plain = Session(make_config(name="plain", features="off", **settings), script=at(freeze)).run().folder
    steps = recorder.of(Evaluated)[0].step
    assert told(recorder)[:2] == [(steps, "filling"), (steps, "held")]
    assert apart(kept, plain) < 1e-5
    assert replay_run(kept).different_at is None


def test_norms_that_begin_to_collect_statistics_drop_nothing_where_there_are_none(probe, recorder) -> None:
    Session(probe(), script=at((50, SetFrozenNorm(trains=True))), sinks=[recorder]).run()
    assert "dropped" not in {state for _, state in told(recorder)}


def test_where_memory_does_not_suffice_a_file_holds_them_and_is_removed(probe, recorder, monkeypatch) -> None:
    monkeypatch.setattr(store, "free_memory", lambda _device: 1000)
    seen = []

    def look(event: object) -> None:
        if isinstance(event, FeaturesChanged) and event.place == "file":
            seen.append([path.name for path in Path(config.run.runs_dir).glob("*/features-*.bin")])

    config = probe()
    kept = Session(config, sinks=[recorder, look]).run().folder
    assert seen
    assert all(names == ["features-0.bin"] for names in seen[1:])
    assert not list(Path(config.run.runs_dir).glob("*/features-*"))
    assert apart(kept, Session(probe(name="memory")).run().folder) == 0


def test_where_there_is_no_room_at_all_it_says_so_and_a_replay_obeys(probe, recorder, monkeypatch) -> None:
    with monkeypatch.context() as patched:
        patched.setattr(store, "free_memory", lambda _device: 1000)
        patched.setattr(store, "_MOST_ON_DISK", 1000)
        folder = Session(probe(name="small"), sinks=[recorder]).run().folder
    assert told(recorder) == [(0, "off")]
    again = type(recorder)()
    assert replay_run(folder, sinks=[again]).different_at is None
    assert {event.state for event in again.of(FeaturesChanged)} == {"off"}


def test_a_disk_or_memory_that_runs_full_meanwhile_is_no_end(probe, recorder, monkeypatch) -> None:
    fill = FeatureCache.fill

    def full(self: FeatureCache) -> None:
        if self.store.done:
            raise OSError(errno.ENOSPC, "No space left on device")
        fill(self)

    monkeypatch.setattr(FeatureCache, "fill", full)
    folder = Session(probe(), sinks=[recorder]).run().folder
    assert told(recorder) == [(0, "filling"), (0, "off")]
    assert apart(folder, Session(probe(name="plain", features="off")).run().folder) == 0


def test_images_that_cannot_be_read_meanwhile_are_an_error(probe, monkeypatch) -> None:
    def broken(_self: FeatureCache) -> None:
        raise OSError(errno.EIO, "Input/output error")

    monkeypatch.setattr(FeatureCache, "fill", broken)
    with pytest.raises(OSError, match="Input/output"):
        Session(probe()).run()


def test_a_file_that_cannot_be_written_is_no_end(probe, recorder, monkeypatch) -> None:
    def refused(*_arguments: object) -> None:
        raise OSError(errno.EOPNOTSUPP, "Operation not supported")

    monkeypatch.setattr(store, "free_memory", lambda _device: 1000)
    monkeypatch.setattr(store.os, "posix_fallocate", refused, raising=False)
    folder = Session(probe(), sinks=[recorder]).run().folder
    assert told(recorder) == [(0, "off")]
    assert not list(folder.path.glob("features-*"))


def test_commands_are_obeyed_while_it_fills(probe, recorder) -> None:
    queue = CommandQueue()

    def pause(event: object) -> None:
        if isinstance(event, FeaturesChanged) and event.state == "filling":
            for command in (Pause(), Save(name="meanwhile"), Resume()):
                queue.put(command)

    folder = Session(probe(name="paused"), commands=queue, sinks=[recorder, pause]).run().folder
    states = [event for event in recorder.events if isinstance(event, StateChanged | FeaturesChanged | TrainPoint)]
    order = [getattr(event, "state", "step") for event in states]
    assert order.index("filling") < order.index("paused") < order.index("held") < order.index("step")
    assert apart(folder, Session(probe(name="whole")).run().folder) == 0


def test_a_stop_while_it_fills_leaves_a_run_that_goes_on_to_the_same_bits(probe) -> None:
    queue = CommandQueue()

    def stop(event: object) -> None:
        if isinstance(event, FeaturesChanged) and event.state == "filling":
            queue.put(Stop())

    cut = Session(probe(name="cut"), commands=queue, sinks=[stop]).run().folder
    assert_resumed_and_replayed_to_the_same_bits(Session(probe(name="whole")).run().folder, cut)


@pytest.mark.parametrize("settings", [{"features": "off"}, {"data": {"augment": "light"}}, {"epochs": 1}])
def test_nothing_is_kept_where_nobody_wants_it_or_it_gains_nothing(settings, probe, recorder) -> None:
    Session(probe(**settings), sinks=[recorder]).run()
    assert told(recorder) == []


def test_a_network_that_cannot_be_divided_trains_as_ever(make_config, recorder) -> None:
    class Branches(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.body = torch.nn.Conv2d(1, 4, 5, 4)
            self.head = torch.nn.Linear(144, 10)
            self.body.requires_grad_(False)

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            x = self.body(x)
            return self.head((x if x.sum() > 0 else -x).flatten(1))

    Session(make_config(epochs=2), model=Branches(), sinks=[recorder]).run()
    assert told(recorder) == []
    assert sum("cannot be divided" in line.message for line in recorder.of(Log)) == 1


def figures(recorder) -> list[tuple[float, float]]:
    return [(event.loss, event.accuracy) for event in recorder.of(Evaluated)]


def test_layers_that_trained_for_some_steps_are_evaluated_as_they_are_then(probe, recorder) -> None:
    lines = [(45, SetFrozen(groups=("conv2",), frozen=False)), (70, SetFrozen(groups=("conv2",), frozen=True))]
    folder = Session(probe(epochs=4, lr=0.05), script=at(*lines), sinks=[recorder]).run().folder
    plain = type(recorder)()
    Session(probe(epochs=4, lr=0.05, features="off"), script=at(*lines), sinks=[plain]).run()
    found, expected = figures(recorder), figures(plain)
    assert len(found) == 4
    assert found == [pytest.approx(one, abs=1e-5) for one in expected]
    assert replay_run(folder).different_at is None


def test_norms_that_collected_statistics_for_some_steps_are_evaluated_as_they_are_then(make_config, recorder) -> None:
    def network() -> torch.nn.Module:
        torch.manual_seed(0)
        body = [torch.nn.Conv2d(1, 4, 5, 4), torch.nn.BatchNorm2d(4)]
        for layer in body:
            layer.requires_grad_(False)
        return torch.nn.Sequential(*body, torch.nn.Flatten(), torch.nn.Linear(144, 10))

    lines = [(45, SetFrozenNorm(trains=True)), (70, SetFrozenNorm(trains=False))]
    Session(make_config(epochs=4), model=network(), script=at(*lines), sinks=[recorder]).run()
    plain = type(recorder)()
    Session(make_config(epochs=4, features="off"), model=network(), script=at(*lines), sinks=[plain]).run()
    assert "held" in {state for _, state in told(recorder)}
    assert figures(recorder) == [pytest.approx(one, abs=1e-5) for one in figures(plain)]


def test_settings_that_let_norms_collect_statistics_drop_features_at_once(make_config, recorder) -> None:
    body = [torch.nn.Conv2d(1, 4, 5, 4), torch.nn.BatchNorm2d(4)]
    for layer in body:
        layer.requires_grad_(False)
    model = torch.nn.Sequential(*body, torch.nn.Flatten(), torch.nn.Linear(144, 10))
    config = make_config(epochs=3)
    collects = msgspec.structs.replace(config.training, frozen_norm_trains=True)
    before = body[1].running_mean.clone()
    Session(config, model=model, script=at((55, ChangeTraining(training=collects))), sinks=[recorder]).run()
    assert (55, "dropped") in told(recorder)
    assert "off" not in {state for _, state in told(recorder)}
    assert not torch.equal(body[1].running_mean, before)


def test_what_cannot_be_had_for_more_layers_is_had_for_fewer_also_where_the_run_goes_on(
    make_config, recorder, monkeypatch
) -> None:
    lines = [(15, SetFrozen(groups=("conv1",), frozen=True)), (50, SetFrozen(groups=("conv2",), frozen=True))]
    fill = FeatureCache.fill

    def full(self: FeatureCache) -> None:
        if self.cut.layers == frozenset(BODY):
            raise OSError(errno.ENOSPC, "No space left on device")
        fill(self)

    config = make_config(name="whole", epochs=4)
    with monkeypatch.context() as patched:
        patched.setattr(FeatureCache, "fill", full)
        whole = Session(config, script=at(*lines), sinks=[recorder]).run().folder
    states = [(event.step, event.state, event.layers) for event in recorder.of(FeaturesChanged)]
    after = states[states.index((80, "off", BODY)) :]
    assert (80, "held", ("conv1",)) in after
    assert replay_run(whole).different_at is None


@pytest.mark.parametrize("stop", [57, 80])
@pytest.mark.parametrize("settings", [("cache", "off"), ("off", "cache"), ("cache", "off", "cache")])
def test_a_run_that_goes_on_with_another_setting_is_replayed_to_the_same_bits(stop, settings, probe, recorder) -> None:
    # At 110 more layers are frozen: their features are not kept where nobody wants them any more.
    thaw, freeze = (SetFrozen(groups=("conv2",), frozen=frozen) for frozen in (False, True))
    first, *others = settings
    stops = [(stop, Stop()), (stop + 41, Stop())]
    changes = [(20, thaw), (125, freeze)]
    lines = sorted([*changes, *stops[: len(others)]], key=lambda line: line[0])
    config = probe(epochs=6, features=first)
    script = at(*lines)
    folder = Session(config, script=script).run().folder
    assert folder is not None
    for name in others:
        again = load(folder.config)
        again = msgspec.structs.replace(again, training=msgspec.structs.replace(again.training, features=name))
        Session(again, resume=folder, script=script, sinks=[recorder]).run()
    switches = [event for event in recorder.of(FeaturesChanged) if event.state in ("on", "off") and not event.layers]
    steps = [step for step, _ in stops]
    expected = [(step, {"cache": "on", "off": "off"}[name]) for step, name in zip(steps, others, strict=False)]
    assert [(event.step, event.state) for event in switches] == expected
    assert ("held" in {event.state for event in recorder.of(FeaturesChanged)}) == (others[-1] == "cache")
    replayed = type(recorder)()
    assert replay_run(folder, sinks=[replayed]).different_at is None
    known = [event for event in JournalReader(folder.journal).read() if isinstance(event, FeaturesChanged)]
    held = [
        {(event.step, event.layers) for event in one if event.state == "held"}
        for one in (known, replayed.of(FeaturesChanged))
    ]
    assert held[1] <= held[0]
    assert {(one.step, one.state) for one in switches} <= set(told(replayed))


def test_going_back_to_before_another_setting_keeps_it_and_a_replay_does_too(probe, recorder) -> None:
    folder = Session(probe(epochs=5), script=at((50, Save(name="before")), (57, Stop()))).run().folder
    assert folder is not None
    again = load(folder.config)
    again = msgspec.structs.replace(again, training=msgspec.structs.replace(again.training, features="off"))
    back = at((100, RollBack(checkpoint="before")))
    Session(again, resume=folder, script=back, sinks=[recorder]).run()
    assert told(recorder) == [(57, "off"), (50, "off")]
    assert replay_run(folder).different_at is None


def test_one_thread_computes_the_steps_of_a_small_head_but_not_those_of_an_earlier_run(probe, monkeypatch) -> None:
    seen: set[int] = set()
    step = Trainer._step

    def note(self: Trainer) -> None:
        seen.add(torch.get_num_threads())
        step(self)

    monkeypatch.setattr(Trainer, "_step", note)
    before = torch.get_num_threads()
    torch.set_num_threads(2)
    try:
        for rules, expected in [(CURRENT, {1}), (3, {2})]:
            with monkeypatch.context() as patched:
                patched.setattr("finetui.engine.training.rules.CURRENT", rules)
                folder = Session(probe(name=f"rules-{rules}", epochs=2)).run().folder
            assert seen == expected
            assert replay_run(folder).different_at is None
            assert seen == expected
            assert torch.get_num_threads() == 2
            seen.clear()
    finally:
        torch.set_num_threads(before)
