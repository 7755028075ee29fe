"""What a person does to a run of several ranks takes effect on all of them at one step, and is journaled once."""

from typing import Any

import msgspec
import pytest
import torch
from forked_ranks import on_ranks
from normed_network import NormedNetwork
from ranked_runs import RankedRuns
from steered import at

from finetui.engine.checkpoints import checkpoint
from finetui.engine.distributed.ranks import Ranks
from finetui.engine.protocol.commands import (
    Branch,
    DescribeModel,
    Evaluate,
    FindLearningRate,
    FinetunePlan,
    Pause,
    Resume,
    RollBack,
    Save,
    SetFrozen,
    SetLearningRate,
    StartFinetune,
    StepOnce,
    Stop,
)
from finetui.engine.protocol.config import DataConfig
from finetui.engine.protocol.events import (
    AnyEvent,
    CommandAccepted,
    CommandRefused,
    Evaluated,
    Rewound,
    StateChanged,
)
from finetui.engine.protocol.queues import CommandQueue
from finetui.engine.session.replay import replay_run
from finetui.engine.session.session import Session

STEERED = (
    (2, SetLearningRate(value=0.01, by="somebody")),
    (3, SetFrozen(groups=("stem",), frozen=True)),
    (4, Save(name="mark")),
    (5, Evaluate()),
    (5, DescribeModel()),
    (5, RollBack(checkpoint="nowhere")),
    (6, SetFrozen(groups=("stem",), frozen=False)),
    (8, RollBack(checkpoint="mark", rate_factor=0.5)),
    (9, FindLearningRate()),
    (9, SetFrozen(groups=("stem",), frozen=False)),
)
WORLD = 2


def digest(session: Session) -> str:
    """Return what tells whether the parameters of two ranks are the same, bit for bit."""
    assert session.active is not None
    parameters = dict(session.active.loop.prepared.model.named_parameters())
    return checkpoint.digest({name: parameter.detach() for name, parameter in parameters.items()})


class Told:
    """A sink that counts what it hears, and answers a state with commands."""

    def __init__(self, answers: dict[str, list[Any]]) -> None:
        self.heard: list[AnyEvent] = []
        self.commands = CommandQueue()
        self._answers = answers

    def __call__(self, event: AnyEvent) -> None:
        self.heard.append(event)
        if isinstance(event, StateChanged):
            for command in self._answers.pop(event.state, []):
                self.commands.put(command)


@pytest.fixture(scope="module", autouse=True)
def found(runs: RankedRuns) -> list[dict[str, Any]]:
    """What each of the ranks found, of several sessions in a row."""

    def session(ranks: Ranks, name: str, **rest: Any) -> Session:
        settings = {"epochs": 2} | rest.pop("training", {})
        model = NormedNetwork(dropout=0.2)
        return Session(runs.config(name, **settings), ranks=ranks, model=model, data=runs.data(), **rest)

    def work(ranks: Ranks) -> dict[str, Any]:
        found: dict[str, Any] = {}
        for name in ("steered", "again"):
            steered = session(ranks, name, script=at(*STEERED))
            outcome = steered.run()
            found[name] = digest(steered), outcome.state

        told = Told({"running": [Pause(by="somebody")], "paused": [StepOnce(), StepOnce(), Save(name="two"), Resume()]})
        paused = session(ranks, "paused", sinks=[told], commands=told.commands, stay=lambda state: state == "paused")
        found["paused"] = paused.run().state, digest(paused), len(told.heard)

        told = Told({"running": [Stop()]})
        stopped = session(ranks, "stopped", sinks=[told], commands=told.commands)
        found["stopped"] = stopped.run().state, stopped.active.trainer.step

        outcome = session(ranks, "branched", script=at((3, Branch(checkpoint="last", name="twig")))).run()
        found["branched"] = outcome.state, outcome.next.run.name, outcome.next.branch.parent
        plan = FinetunePlan(recipe="linear-probe", epochs=1)
        outcome = session(ranks, "parent", script=at((3, StartFinetune(plan=plan)))).run()
        found["finetuned"] = outcome.state, outcome.next.finetune.parent
        return found

    return on_ranks(WORLD, work, runs.path)


def test_all_ranks_end_with_the_same_parameters_to_the_bit(found: list[dict[str, Any]]) -> None:
    assert found[0]["steered"] == found[1]["steered"]
    assert found[0]["steered"][1] == "finished"
    assert found[0]["paused"][:2] == found[1]["paused"][:2]


def test_the_same_commands_make_the_same_bits_again(runs: RankedRuns, found: list[dict[str, Any]]) -> None:
    assert found[0]["again"] == found[0]["steered"]
    first, second = runs.weights("steered"), runs.weights("again")
    assert all(torch.equal(first[name], second[name]) for name in first)


def test_commands_are_journaled_once_with_their_step(runs: RankedRuns) -> None:
    accepted = [
        (event.step, type(event.command).__name__)
        for event in runs.told("steered", CommandAccepted)
        if event.command.by != "replay"
    ]
    named = [(step, type(command).__name__) for step, command in STEERED if not isinstance(command, DescribeModel)]
    named = [(step, name) for step, name in named if (step, name) != (5, "RollBack")]
    named[-3] = 4, "RollBack"  # it is told where the run is then
    assert accepted == named
    assert [event.step for event in runs.told("steered", CommandRefused)] == [5]
    assert [event.cause for event in runs.told("steered", Rewound)] == ["rollback"]
    assert len(runs.told("steered", Evaluated)) == 4  # one was asked for, one epoch came twice


def test_what_is_asked_is_answered_once(runs: RankedRuns, found: list[dict[str, Any]]) -> None:
    states = [event.state for event in runs.told("paused", StateChanged)]
    assert states == ["preparing", "ready", "running", "paused", "running", "finished"]
    assert found[0]["paused"][2] > found[1]["paused"][2] == 0  # only rank 0 tells
    kept = checkpoint.load(runs.folder("paused").checkpoint("two"))[2]
    replies = [(event.step, type(event.command).__name__) for event in runs.told("paused", CommandAccepted)]
    assert replies == [
        (kept["step"] - 2, "Pause"),
        (kept["step"] - 1, "StepOnce"),
        (kept["step"], "StepOnce"),
        (kept["step"], "Save"),
        (kept["step"], "Resume"),
    ]


def test_stop_branch_and_finetune_end_the_run_on_all_ranks(runs: RankedRuns, found: list[dict[str, Any]]) -> None:
    for name, state in (("stopped", "stopped"), ("branched", "stopped"), ("finetuned", "stopped")):
        assert found[0][name] == found[1][name]
        assert found[0][name][0] == state
    assert found[0]["branched"][1] == "twig"
    assert runs.folder("branched").path.joinpath(found[0]["branched"][2]).is_file()


def test_a_replay_ends_with_the_same_bits(runs: RankedRuns, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("finetui.engine.session.evaluator.batch_size_for", lambda *_: 500)

    def work(ranks: Ranks) -> tuple[int, int | None, bool]:
        replayed = replay_run(runs.folder("digits"), ranks=ranks)
        return replayed.compared, replayed.different_at, replayed.complete

    def begun(ranks: Ranks) -> None:
        config = runs.config("digits", batch_size=400, lr=0.01)
        config = msgspec.structs.replace(config, data=DataConfig(name="mnist-sample"))
        script = at((2, SetFrozen(groups=("conv1",), frozen=True)), (4, Save(name="x")), (5, Stop()))
        Session(config, ranks=ranks, script=script).run()

    on_ranks(WORLD, begun, runs.path)
    found = on_ranks(WORLD, work, runs.path)
    assert found[0] == (3, None, True)
    assert found[1][1:] == (None, False)
