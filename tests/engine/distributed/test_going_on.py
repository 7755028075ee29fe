"""Runs of several ranks that go on: exactly with as many, from the same place with others."""

import math
import shutil
from typing import Any

import pytest
import torch
from forked_ranks import on_ranks
from normed_network import NormedNetwork
from ranked_runs import STEPS, RankedRuns
from steered import at

from finetui.engine.checkpoints import checkpoint
from finetui.engine.distributed.ranks import Ranks
from finetui.engine.errors import FinetuiError
from finetui.engine.protocol.commands import SetFrozen, Stop
from finetui.engine.protocol.config_file import load
from finetui.engine.protocol.events import Log, Rewound, RunPrepared, StateChanged, TrainPoint
from finetui.engine.session.session import Session

WORLD = 3
CUT = STEPS + 3  # in the middle of the second epoch
FREEZE = (STEPS + 1, SetFrozen(groups=("stem",), frozen=True))


class Spoilt(NormedNetwork):
    """Makes no number of the images of one rank from some step on."""

    calls = 0

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        self.calls += self.training
        found = super().forward(images)
        return found * math.nan if self.training and self.calls > 6 and torch.distributed.get_rank() == 1 else found


@pytest.fixture(scope="module", autouse=True)
def found(runs: RankedRuns) -> Any:
    """Runs without a break, and cut ones that go on."""

    def trained(ranks: Ranks, name: str, *commands: Any, **rest: Any) -> Session:
        config = load(rest["resume"].config) if "resume" in rest else runs.config(name, epochs=3, augment="light")
        model = rest.pop("model", None) or NormedNetwork(dropout=0.3)
        session = Session(config, ranks=ranks, model=model, data=runs.data(), script=at(*commands), **rest)
        session.run()
        return session

    def work(ranks: Ranks) -> dict[str, Any]:
        trained(ranks, "whole", FREEZE)
        for name in ("cut", "moved"):
            trained(ranks, name, FREEZE, (CUT, Stop()))
        if ranks.is_first:
            shutil.copy(runs.folder("moved").last, runs.path / "moved.cut")
        trained(ranks, "cut", resume=runs.folder("cut"))
        session = trained(ranks, "norms")
        norm = session.active.loop.prepared.model.norm1.running_mean
        failed = ""
        try:
            trained(ranks, "spoilt", model=Spoilt())
        except FinetuiError as error:
            failed = str(error)
        return {"mean": norm.clone(), "failed": failed}

    found = on_ranks(WORLD, work, runs.path)
    on_ranks(2, lambda ranks: trained(ranks, "moved", resume=runs.folder("moved")) and None, runs.path)
    return found


def test_a_run_that_is_cut_and_goes_on_ends_with_the_same_bits(runs: RankedRuns) -> None:
    whole, cut = runs.weights("whole"), runs.weights("cut")
    assert all(torch.equal(whole[name], cut[name]) for name in whole)
    assert not [event for event in runs.told("cut", Log) if "last digits" in event.message]
    assert {event.world for event in runs.told("cut", RunPrepared)} == {WORLD}


def test_with_another_number_it_goes_on_from_the_same_place_and_says_so(runs: RankedRuns) -> None:
    before, after = (checkpoint.load(file)[2]["world"] for file in (runs.path / "moved.cut", runs.folder("moved").last))
    assert (before, after) == (WORLD, 2)
    warned = [event.message for event in runs.told("moved", Log) if event.level == "warning"]
    assert [message for message in warned if "3 processes" in message and "goes on with 2" in message]
    (rewound,) = runs.told("moved", Rewound)
    assert (rewound.step, rewound.undone) == (CUT, 0)
    assert sum(point.steps for point in runs.told("moved", TrainPoint)) == 3 * STEPS


def test_running_statistics_are_each_ranks_own_and_kept_as_their_mean(runs: RankedRuns, found: Any) -> None:
    own = [one["mean"] for one in found]
    assert not torch.equal(own[0], own[1])
    mean = (sum(values.double() for values in own) / WORLD).float()
    assert torch.equal(runs.weights("norms")["norm1.running_mean"], mean)


def test_what_one_rank_loses_ends_the_run_on_all(runs: RankedRuns, found: Any) -> None:
    assert len({one["failed"] for one in found}) == 1
    assert "the training loss became nan at step 5" in found[0]["failed"]
    assert runs.told("spoilt", StateChanged)[-1].state == "failed"
    assert all(torch.isfinite(values).all() for values in runs.weights("spoilt").values())
