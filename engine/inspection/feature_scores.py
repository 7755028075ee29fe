"""Evaluations that go on from features: the same bits as when the whole network sees the images each time."""

from collections.abc import Callable, Iterator
from functools import partial

import torch
from torch import Tensor, nn

from finetui.engine.data import Split
from finetui.engine.errors import describe
from finetui.engine.inspection.evaluation import ScoredBatch, network_scores
from finetui.engine.models.outputs import logits, outputs_of
from finetui.engine.protocol.values import FeaturePlace
from finetui.engine.training.features.cut import Cut
from finetui.engine.training.features.store import FeatureStore, is_full


class FeatureScores:
    """Computes what `network_scores` does of `model` on `data`, and keeps what the first part of `cut` makes of it.

    The features are those of the same batches: so are the sums in them, whose last digits depend on the batch. `cut` is
    one of `model` in evaluation mode. Where there is no memory for them after all, `refused` is told why, once, and the
    whole network computes everything.
    """

    def __init__(
        self,
        cut: Cut,
        model: nn.Module,
        data: Split,
        place: FeaturePlace,
        device: torch.device,
        refused: Callable[[str], None] = lambda _reason: None,
    ) -> None:
        self.cut = cut
        self._model = model
        self._data = data
        self._device = device
        self._place = place
        self._refused = refused
        self._store: FeatureStore | None = None
        self._full = False

    @property
    def bytes(self) -> int:
        """What is held, or will be once there was a pass."""
        return len(self._data) * sum(spec.bytes for spec in self.cut.specs)

    def __call__(self, order: Tensor, batch_size: int) -> Iterator[ScoredBatch]:
        """Yield what the network says of the images `order`, the same ones at every call, in batches."""
        if self._store is None and not self._full:
            self._store = self._new_store(len(order))
        if self._store is None:
            yield from network_scores(self._model, self._data, order, batch_size)
            return
        yield from self._known(self._store, order, batch_size)
        yield from self._new(self._store, order, batch_size)

    def _new_store(self, images: int) -> FeatureStore | None:
        try:
            return FeatureStore(self.cut.specs, images, self._place, self._device, None)
        except (MemoryError, RuntimeError) as error:
            if not is_full(error):
                raise
            self._full = True
            self._refused(describe(error))
            return None

    def _known(self, store: FeatureStore, order: Tensor, batch_size: int) -> Iterator[ScoredBatch]:
        for start in range(0, store.done, batch_size):
            rows = torch.arange(start, min(start + batch_size, store.done))
            rows = rows[~store.missing[rows]]
            if len(rows) == 1:  # which is computed in another way, see `outputs`
                yield from network_scores(self._model, self._data, order[rows], batch_size)
                continue
            images = order[rows]
            labels = self._data.labels[images].to(self._device)
            yield images.tolist(), labels, partial(self._rest, store, rows)

    def _rest(self, store: FeatureStore, rows: Tensor) -> Tensor:
        return outputs_of(self.cut.rest(*store.gather(rows))).logits

    def _new(self, store: FeatureStore, order: Tensor, batch_size: int) -> Iterator[ScoredBatch]:
        places, done = order.tolist(), store.done
        if done == len(places):
            return
        for inputs, labels in self._data.batches(order[done:], batch_size):
            upto = min(done + batch_size, len(places))
            rows = [row for row in range(done, upto) if places[row] not in self._data.skipped]
            indices = [places[row] for row in rows]
            if len(rows) > 1:
                yield indices, labels, partial(self._both, store, inputs, rows, upto)
            else:
                store.add([], rows, upto)
                yield indices, labels, partial(logits, self._model, inputs)
            done = upto

    def _both(self, store: FeatureStore, inputs: Tensor, rows: list[int], upto: int) -> Tensor:
        features = self.cut.first(inputs)
        store.add(features, rows, upto)
        # What was added is a copy: the rest may work in place on its own.
        return outputs_of(self.cut.rest(*features)).logits

    def close(self) -> None:
        """Give back the memory."""
        self._store = None
