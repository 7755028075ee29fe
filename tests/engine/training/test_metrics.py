"""The mean of many steps: how often it is read."""

import pytest

from finetui.engine.distributed.rank_info import RankInfo
from finetui.engine.distributed.ranks import Ranks
from finetui.engine.training import metrics
from finetui.engine.training.divergence import LossGuard


@pytest.mark.parametrize(("world", "seconds"), [(1, 0.1), (8, 0.1), (64, 0.8), (4096, 51.2)])
def test_many_ranks_tell_each_other_less_often(monkeypatch: pytest.MonkeyPatch, world: int, seconds: float) -> None:
    now = [0.0]
    monkeypatch.setattr(metrics.time, "monotonic", lambda: now[0])
    meter = metrics.Meter(LossGuard(0.0, 10), Ranks(RankInfo(world=world)))
    now[0] = seconds - 0.001
    assert not meter.due()
    now[0] = seconds + 0.001
    assert meter.due()
