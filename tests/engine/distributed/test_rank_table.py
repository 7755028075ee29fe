"""What two ranks tell of themselves, and that different weights are noticed."""

import json
import time
from collections.abc import Iterator
from pathlib import Path

import msgspec
import pytest
import torch
from forked_ranks import on_ranks
from ranked_runs import STEPS, RankedRuns

from finetui.engine.distributed.ranks import SINGLE, Ranks
from finetui.engine.protocol.events import Alert, AnyEvent, RanksSeen, TrainPoint
from finetui.engine.protocol.ranks import MOST_ROWS, RankRow, slowest, worth_a_row
from finetui.engine.protocol.values import TimeShares
from finetui.engine.runs.journal import Journal, JournalReader
from finetui.engine.runs.reporter import Reporter
from finetui.engine.session.rank_table import CHECK_STEPS, RankTable

CPU = torch.device("cpu")
POINT = TrainPoint(
    epoch=1, step_in_epoch=1, steps=1, loss=1.0, accuracy=0.5, learning_rate=0.1, grad_norm=1.0, samples_per_second=800
)
SHARES = TimeShares(waiting=0.1, copying=0.05, computing=0.85, seconds=1.0)


def row(rank: int, at_work: float) -> RankRow:
    return RankRow(rank=rank, waiting=0.1, computing=at_work - 0.1)


def _weights() -> dict[str, torch.Tensor]:
    torch.manual_seed(0)
    return {name: torch.randn(30, 20) for name in ("conv1.weight", "fc.weight", "fc.bias")}


def _told(ranks: Ranks, folder: Path) -> None:
    """Take five points; before the third, rank 1 changes a weight, and before the last one takes that back."""
    ranks.open(CPU)
    rank = ranks.rank
    heard: list[AnyEvent] = []
    journal = Journal()
    step = 0
    reporter = Reporter(journal, [heard.append], lambda: step)
    weights = _weights()
    table = RankTable(ranks, weights, reporter, CPU, f"cpu of rank {rank}")
    for number in range(1, 6):
        step = 1 + (number - 1) * CHECK_STEPS // 2
        if number in (3, 5) and rank == 1:
            weights["fc.weight"][3, 4] = 0.25 if number == 3 else _weights()["fc.weight"][3, 4]
        shares = msgspec.structs.replace(SHARES, waiting=0.4, computing=0.55) if rank == 1 else SHARES
        table.restart()
        with table.in_step():
            ranks.waited += 0.3 if rank == 0 else 0.0
        table.told(msgspec.structs.replace(POINT, step=step, time_shares=shares))
    (folder / f"{rank}.json").write_bytes(msgspec.json.encode(heard))
    if ranks.is_first:
        heard.clear()
        table._shown = 0.0
        table.heard({1: 2.0})  # nothing to speak of
        table.heard({1: 12.0})
        table.heard({1: 12.5})  # too soon
        (folder / "silent.json").write_bytes(msgspec.json.encode(heard))
    journal.open(folder / f"{rank}.jsonl")
    journal.close()


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    path = tmp_path_factory.mktemp("ranks")
    on_ranks(2, lambda ranks: _told(ranks, path), path)
    yield path


@pytest.fixture(scope="module")
def heard(folder: Path) -> list[AnyEvent]:
    return msgspec.json.decode((folder / "0.json").read_bytes(), type=list[AnyEvent])


def test_rank_0_reports_all_of_them_and_the_others_nothing(folder: Path, heard: list[AnyEvent]) -> None:
    assert json.loads((folder / "1.json").read_bytes()) == []
    seen = [event for event in heard if isinstance(event, RanksSeen)]
    assert [event.step for event in seen] == [1, 51, 101, 151, 201]
    first, second = seen[0].rows
    assert (first.rank, second.rank, seen[0].world) == (0, 1, 2)
    assert (first.device, second.device) == ("cpu of rank 0", "cpu of rank 1") and first.node
    assert (first.waiting, first.computing, first.communicating) == (0.15, 0.55, 0.3)
    assert (second.waiting, second.computing, second.communicating) == (0.45, 0.55, 0.0)
    assert first.samples_per_second == 400 and first.memory and first.memory_total and first.memory > 10 * 2**20
    assert slowest(seen[0].rows) == second
    assert abs(first.heard - seen[0].time) < 5


def test_a_weight_that_differs_is_an_alert_that_names_the_tensor_and_the_rank(heard: list[AnyEvent]) -> None:
    alerts = [event for event in heard if isinstance(event, Alert)]
    assert [(alert.kind, alert.step) for alert in alerts] == [("ranks", 101)]
    assert "step 101: fc.weight of rank 1 is not" in alerts[0].message
    seen = [event for event in heard if isinstance(event, RanksSeen)]
    assert [(event.alike, event.differs) for event in seen] == [
        (1, ""),
        (1, ""),
        (1, "fc.weight"),
        (1, "fc.weight"),  # not compared again so soon
        (201, ""),
    ]


def test_the_journal_has_the_alert_and_a_few_of_the_rows(folder: Path) -> None:
    kept = list(JournalReader(folder / "0.jsonl").read())
    assert [type(event) for event in kept] == [RanksSeen, Alert]
    assert [event.seq for event in kept] == [0, 1]
    assert (folder / "1.jsonl").read_bytes() == b""


def test_a_rank_that_falls_silent_is_shown_while_the_others_wait_for_it(folder: Path) -> None:
    (seen,) = msgspec.json.decode((folder / "silent.json").read_bytes(), type=list[AnyEvent])
    assert isinstance(seen, RanksSeen) and seen.seq == -1
    assert [round(seen.time - row.heard) for row in seen.rows] == [0, 12]


def test_a_single_process_tells_nothing() -> None:
    heard: list[AnyEvent] = []
    table = RankTable(SINGLE, _weights(), Reporter(None, [heard.append], lambda: 0), CPU, "cpu")
    table.told(msgspec.structs.replace(POINT, time_shares=SHARES))
    assert heard == []


def test_the_slowest_is_the_one_that_works_while_others_wait() -> None:
    assert slowest([]) is None and slowest([row(0, 0.9)]) is None
    assert slowest([row(0, 0.7), row(1, 0.72), row(2, 0.71)]) is None
    assert slowest([row(0, 0.5), row(1, 0.98), row(2, 0.52)]) == row(1, 0.98)


def test_of_many_ranks_the_first_and_the_slowest_have_rows() -> None:
    rows = [row(rank, 0.5 + (rank % 7 == 3) * 0.3) for rank in range(512)]
    found = worth_a_row(rows)
    assert len(found) == MOST_ROWS and found[0].rank == 0
    assert all(one.at_work == 0.8 for one in found[1:]) and [one.rank for one in found] == sorted(r.rank for r in found)
    assert worth_a_row(rows[:8]) == tuple(rows[:8])


@pytest.fixture(scope="module")
def session(runs: RankedRuns) -> RankedRuns:
    """Two ranks for two epochs; rank 1 is slow, and changes a weight once the second one has begun."""

    def work(ranks: Ranks) -> None:
        torch.manual_seed(0)
        model = torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(28 * 28, 20), torch.nn.Linear(20, 10))

        def on_step(step: int, _loss: torch.Tensor) -> None:
            time.sleep(0.1)
            if step == STEPS + 1:
                with torch.no_grad():
                    model[2].bias[3] += 1e-6

        with pytest.MonkeyPatch.context() as patch:
            patch.setattr("finetui.engine.session.rank_table.CHECK_STEPS", STEPS)
            patch.setattr("finetui.engine.session.rank_table.journal_seconds", lambda _watched: 0.0)
            runs.train(ranks, runs.config("seen", epochs=2), model=model, on_step=None if ranks.is_first else on_step)

    on_ranks(2, work, runs.path)
    return runs


def test_a_run_of_two_ranks_tells_of_both_and_which_is_slow(session: RankedRuns) -> None:
    seen = session.told("seen", RanksSeen)
    assert seen[-1].step == 2 * STEPS and all(event.world == 2 for event in seen)
    assert {tuple(row.step for row in event.rows) for event in seen} == {(event.step,) * 2 for event in seen}
    first, second = (sum(event.rows[rank].communicating for event in seen) for rank in (0, 1))
    assert first > second + 0.2 * len(seen)
    marked = [slowest(event.rows) for event in seen]
    assert marked.count(None) + sum(row is not None and row.rank == 1 for row in marked) == len(seen)
    assert marked.count(None) < len(seen) / 2


def test_a_run_in_which_a_weight_drifts_says_which_at_the_next_comparison(session: RankedRuns) -> None:
    alerts = [alert for alert in session.told("seen", Alert) if alert.kind == "ranks"]
    assert len(alerts) == 1 and STEPS < alerts[0].step <= 2 * STEPS
    assert f"at step {alerts[0].step}: 2.bias of rank 1 is not that of the others; roll back" in alerts[0].message
    last = session.told("seen", RanksSeen)[-1]
    assert last.alike in range(1, STEPS + 1) and last.differs == "2.bias"
