"""Evaluations from features say what the network says, in passes one after the other, of every size of batch."""

from collections.abc import Iterator

import pytest
import torch
from torch import Tensor, nn

from finetui.engine.inspection import feature_scores
from finetui.engine.inspection.evaluation import evaluate
from finetui.engine.inspection.feature_scores import FeatureScores
from finetui.engine.training.features.cut import find_cut

CLASSES = ("one", "two", "three")


class Images:
    """Images of noise, of which `unreadable` are found to be so when they are read."""

    def __init__(self, count: int, unreadable: frozenset[int] = frozenset()) -> None:
        generator = torch.Generator().manual_seed(0)
        self._images = torch.randn(count, 1, 8, 8, generator=generator)
        self._unreadable = unreadable
        self.labels = torch.arange(count) % len(CLASSES)
        self.skipped: frozenset[int] = frozenset()

    def __len__(self) -> int:
        return len(self.labels)

    def batches(self, order: Tensor, batch_size: int) -> Iterator[tuple[Tensor, Tensor]]:
        for batch in order.split(batch_size):
            self.skipped |= self._unreadable & set(batch.tolist())
            good = torch.tensor([index for index in batch.tolist() if index not in self.skipped], dtype=torch.int64)
            yield self._images[good], self.labels[good]


@pytest.fixture
def model() -> nn.Module:
    torch.manual_seed(0)
    model = nn.Sequential(nn.Conv2d(1, 4, 3), nn.Flatten(), nn.Linear(144, len(CLASSES)))
    model[0].requires_grad_(False)
    return model.eval()


@pytest.mark.parametrize(
    ("count", "unreadable"),
    [(20, ()), (21, ()), (1, ()), (20, range(10)), (20, range(10, 20)), (20, range(1, 10)), (21, (20,)), (21, (3, 15))],
)
def test_every_pass_finds_what_the_network_finds(count: int, unreadable: range, model: nn.Module) -> None:
    data = Images(count, frozenset(unreadable))
    expected = evaluate(model, data, CLASSES, batch_size=10)
    scores = FeatureScores(
        find_cut(model, {"0"}, (1, 8, 8)), model, Images(count, frozenset(unreadable)), "memory", torch.device("cpu")
    )
    told: list[tuple[int, int]] = []
    for _ in range(3):
        found = evaluate(model, data, CLASSES, batch_size=10, scores=scores, progress=lambda *now: told.append(now))
        assert found is not None
        assert expected is not None
        assert found.n == expected.n == count - len(unreadable)
        assert found.loss == expected.loss
        assert found.columns["index"].tolist() == expected.columns["index"].tolist()
    assert [done for done, _ in told] == 3 * [min(done, count) for done in range(10, count + 10, 10)]


def test_without_memory_for_features_the_network_is_asked(model: nn.Module, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_arguments: object) -> None:
        raise RuntimeError("DefaultCPUAllocator: can't allocate memory: you tried to allocate 99 bytes")

    monkeypatch.setattr(feature_scores, "FeatureStore", full)
    said: list[str] = []
    cut = find_cut(model, {"0"}, (1, 8, 8))
    scores = FeatureScores(cut, model, Images(21), "memory", torch.device("cpu"), said.append)
    expected = evaluate(model, Images(21), CLASSES, batch_size=10)
    for _ in range(2):
        found = evaluate(model, Images(21), CLASSES, batch_size=10, scores=scores)
        assert found is not None
        assert expected is not None
        assert found.loss == expected.loss
    assert len(said) == 1
    assert "allocate memory" in said[0]
