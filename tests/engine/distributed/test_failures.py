"""What one rank runs into ends the run on all, and rank 0 says which it was; and what cannot be is said before."""

from typing import Any

import msgspec
import pytest
import torch
from forked_ranks import on_ranks
from normed_network import NormedNetwork
from ranked_runs import RankedRuns
from steered import at

from finetui.engine.distributed.dealing import copied, deal
from finetui.engine.distributed.rank_info import RankInfo, rank_info_from
from finetui.engine.distributed.ranks import Ranks
from finetui.engine.errors import BadInput
from finetui.engine.protocol.commands import Evaluate, Stop
from finetui.engine.protocol.events import StateChanged
from finetui.engine.runs.folder import RunFolder
from finetui.engine.session.session import Session


class TooLarge(NormedNetwork):
    """Finds no memory for the images of one rank."""

    calls = 0

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        self.calls += self.training
        if self.training and self.calls > 6 and torch.distributed.get_rank() == 1:
            raise torch.OutOfMemoryError("out of memory")
        return super().forward(images)


@pytest.fixture(scope="module")
def found(runs: RankedRuns) -> list[dict[str, Any]]:
    """What two ranks found of refused runs, of one with a full disk, and of one that fails on rank 1 alone."""

    def refused(ranks: Ranks, **settings: Any) -> str:
        with pytest.raises(BadInput) as raised:
            Session(runs.config("refused", **settings), ranks=ranks, data=runs.data(), model=NormedNetwork()).run()
        return str(raised.value)

    def evaluated(ranks: Ranks, where: str) -> None:
        config = runs.config("same")
        run = msgspec.structs.replace(config.run, runs_dir=str(runs.path / where))
        config = msgspec.structs.replace(config, run=run)
        runs.train(ranks, config, script=at((0, Evaluate()), (0, Stop())))

    def work(ranks: Ranks) -> dict[str, Any]:
        found: dict[str, Any] = {"few": refused(ranks, batch_size=3), "compiled": refused(ranks, compile="default")}
        evaluated(ranks, "two")
        try:
            Session(runs.config("failed"), ranks=ranks, data=runs.data(), model=TooLarge()).run()
        except Exception as error:  # noqa: BLE001  # Gloo's is a RuntimeError
            found["failed"] = str(error)
        return found

    on_ranks(1, lambda ranks: evaluated(ranks, "one"), runs.path)
    return on_ranks(2, work, runs.path)


def test_the_same_weights_make_the_same_predictions_file(runs: RankedRuns, found: list[dict[str, Any]]) -> None:
    one, two = (RunFolder(runs.path / where / "same").last_predictions.read_bytes() for where in ("one", "two"))
    assert one == two
    assert len(one) > 90 * 32


def test_what_cannot_be_divided_is_refused_on_all_ranks(found: list[dict[str, Any]]) -> None:
    assert found[0]["few"] == found[1]["few"]
    assert "3 is for all 2 processes together" in found[0]["few"]
    assert "give 4 or more" in found[0]["few"]
    assert "--compile off" in found[0]["compiled"]


def test_a_rank_without_memory_is_named_by_the_first(runs: RankedRuns, found: list[dict[str, Any]]) -> None:
    assert all("failed" in one for one in found)
    failed = runs.told("failed", StateChanged)[-1]
    assert failed.state == "failed"
    assert failed.reason.startswith("rank 1 failed: out of memory")


def test_batches_are_dealt_in_order_and_without_a_rest() -> None:
    for total in range(1, 60):
        for world in (1, 2, 3, 8, 64):
            for least in (1, 2):
                dealt = deal(total, world, least)
                images = [range(start, start + size) for start, size in zip(dealt.starts, dealt.sizes, strict=True)]
                assert [image for some in images for image in some] == list(range(total))
                assert all(size == 0 or size >= min(least, total) for size in dealt.sizes)
                assert max(dealt.sizes) - min(dealt.sizes) <= max(1, 2 * least - 1)
    assert copied(5, 3).sizes == (5, 5, 5)


def test_the_place_of_a_process_is_what_torchrun_says() -> None:
    variables = {"RANK": "5", "WORLD_SIZE": "8", "LOCAL_RANK": "1", "LOCAL_WORLD_SIZE": "4", "GROUP_RANK": "1"}
    assert rank_info_from(variables) == RankInfo(rank=5, world=8, local_rank=1, local_world=4, node=1)
    assert rank_info_from({}) == RankInfo()
    for wrong in ({"RANK": "8"}, {"RANK": "one"}, {"LOCAL_RANK": "4"}):
        with pytest.raises(BadInput, match="torchrun"):
            rank_info_from(variables | wrong)
