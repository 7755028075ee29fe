"""The features of a run: which are kept is chosen here, they are filled between commands, and it is reported."""

import time
from collections.abc import Callable
from pathlib import Path

import torch
from torch.nn import Module

from finetui.engine.errors import describe
from finetui.engine.inspection.feature_scores import FeatureScores
from finetui.engine.protocol.config import RunConfig
from finetui.engine.protocol.events import FeaturesChanged, Log
from finetui.engine.protocol.values import Part
from finetui.engine.runs.reporter import Reporter
from finetui.engine.setup.prepared import FeatureOrder, Prepared
from finetui.engine.training.features.cache import FeatureCache
from finetui.engine.training.features.cut import Cut, find_cut
from finetui.engine.training.features.graph import NoCut
from finetui.engine.training.features.store import NoRoom, choose_place, is_full, remove_stale
from finetui.engine.training.trainer import Trainer

_FIRST_RULES = 3  # earlier runs computed all of the network at every step
_NOT_KEPT = (
    "the frozen layers are computed at every step: their features are not cached when several processes train, or a "
    "batch is computed in parts"
)
_KEPT = 4  # cuts that were looked for last


class Features:
    """Keeps for `trainer` what the frozen first layers make of each image, where that is the same in every epoch.

    The choice is made at the start of an epoch, from what is known then: the layers that stay frozen in this epoch and
    the next, since filling takes what it saves in one. `folder` is where a file may be; `obeyed` is what
    a run that is replayed could not have, or did by another setting from some step on, in order.
    """

    def __init__(self, prepared: Prepared, config: RunConfig, trainer: Trainer, reporter: Reporter) -> None:
        self.folder: Callable[[], Path | None] = lambda: None
        self.obeyed: list[FeatureOrder] = []
        self._prepared = prepared
        self._trainer = trainer
        self._reporter = reporter
        self._precision = config.training.precision
        self._compile = config.training.compile
        divided = trainer.divided is not None
        self._wanted = config.training.features == "cache" and prepared.rules >= _FIRST_RULES and not divided
        self._not_kept = _NOT_KEPT if divided and config.training.features == "cache" else ""
        trainer.features.wanted = self._wanted
        # Of images that differ from epoch to epoch nothing can be kept.
        self._same = config.data.augment == "none" and not prepared.data.train.draws
        self._cuts: dict[tuple[frozenset[str], bool], Cut | None] = {}
        self._said: set[str] = set()
        self._seconds = 0.0  # that filling took
        self._trained: float | None = None  # seconds of an epoch trained from features, while it is measured
        self._scores: FeatureScores | None = None
        self._cleaned = False

    @property
    def _shape(self) -> tuple[int, int, int]:
        architecture = self._prepared.architecture
        return architecture.in_channels, architecture.height, architecture.width

    # -- training ---------------------------------------------------------------------------------------

    def ready(self) -> bool:
        """Whether a step can be taken; else the features of some more images are there now. Asking costs nothing."""
        use = self._trainer.features
        if use.settled and not self.obeyed:
            return True
        if use.wanted != self._wanted:
            self._switch(self._wanted, f"the run continues with --features {'cache' if self._wanted else 'off'}")
        self._obey()
        if use.settled:
            return True
        use.layers = self._choose()
        held = use.cache or use.filling
        if held is not None and (held.cut.layers != use.layers or held.cut.stale):
            self._discard(f"those of {len(use.layers)} layers replace them" if use.layers else "layers changed")
        if not use.layers or use.cache is not None:
            use.settled = True
            return True
        self._fill(use.layers)
        return use.settled

    def fill(self, stopped: Callable[[], bool]) -> None:
        """Compute all that the next step needs, or until a stop waits."""
        while not (stopped() or self.ready()):
            pass

    def _obey(self) -> None:
        use = self._trainer.features
        reason = "as in the run that is replayed"
        while self.obeyed and self.obeyed[0][0] <= self._trainer.step:
            _, on, layers = self.obeyed.pop(0)
            if not layers:
                self._switch(on, reason)
            elif frozenset(layers) not in use.given_up:
                self._give_up(frozenset(layers), reason)

    def _switch(self, on: bool, reason: str) -> None:
        """Go on by another setting, also where the run is replayed; where it is on, from the next epoch."""
        use = self._trainer.features
        self._wanted = use.wanted = on
        if not on:
            self._discard("")
            use.layers = frozenset()
            self._trainer.restart_batches()
        use.settled = False
        self._reporter.emit(FeaturesChanged(state="on" if on else "off", reason=reason))

    def _choose(self) -> frozenset[str]:
        """Return the layers of the first part for the epoch in progress; none where nothing is kept."""
        trainer, use = self._trainer, self._trainer.features
        if self._not_kept and trainer.freezer.fixed:
            self._say(self._not_kept)
        if not self._wanted or not self._same:
            return frozenset()
        if trainer.position:
            return use.layers
        stays = use.entered <= trainer.freezer.fixed and use.entered not in use.given_up
        layers = use.entered if stays else frozenset()
        if trainer.epoch + 2 <= trainer.epochs:
            found = self._cut_deeper(trainer.stays(trainer.epoch + 1), layers)
            if found is not None and found.layers not in use.given_up:
                return found.layers
        return layers

    def _cut_deeper(self, layers: frozenset[str], than: frozenset[str], *, training: bool = True) -> Cut | None:
        """Return the cut behind as many of `layers` as there can be, if that is behind others `than` those."""
        if layers <= than:
            return None
        found = self._cut(layers, training)
        if found is not None and found.layers != layers:
            found = self._cut(found.layers, training)  # the same that a run would find that goes on with these
        return found if found is not None and not found.layers <= than else None

    def _cut(self, layers: frozenset[str], training: bool = True) -> Cut | None:
        key = layers, training
        known = self._cuts.get(key)
        if key not in self._cuts or (known is not None and known.stale and training):
            try:
                self._cuts[key] = self._find(layers, training)
            except NoCut as reason:
                self._cuts[key] = None
                self._say(
                    f"the frozen layers are computed at every step: the network cannot be divided, since {reason}"
                )
            while len(self._cuts) > _KEPT:
                del self._cuts[next(iter(self._cuts))]
        return self._cuts[key]

    def _find(self, layers: frozenset[str], training: bool) -> Cut:
        model: Module = self._prepared.model
        if training:
            return find_cut(model, layers, self._shape, path=self._prepared.path, precision=self._precision)
        model.eval()
        try:
            return find_cut(model, layers, self._shape)
        finally:
            self._trainer.freezer.train_mode()

    def _say(self, message: str) -> None:
        if message not in self._said:
            self._said.add(message)
            self._reporter.emit(Log(level="info", message=message))

    def _fill(self, layers: frozenset[str]) -> None:
        started = time.perf_counter()
        use = self._trainer.features
        try:
            if use.filling is None:
                use.filling = self._open(layers)
                self._seconds = 0.0
                self._tell("filling", use.filling)
            use.filling.fill()
        except NoRoom as problem:
            self._give_up(layers, str(problem))
            return
        except (OSError, MemoryError, RuntimeError) as error:
            if not is_full(error):
                raise
            self._give_up(layers, describe(error))
            return
        self._seconds += time.perf_counter() - started
        store = use.filling.store
        self._reporter.progress("Computing features", store.done, len(self._prepared.data.train))
        self._trainer.restart_clock()
        if use.filling.complete:
            use.cache, use.filling, use.settled = use.filling, None, True
            self._trainer.restart_batches()
            self._trained = None if self._trainer.position else 0.0
            self._tell("held", use.cache)

    def _open(self, layers: frozenset[str]) -> FeatureCache:
        prepared, folder = self._prepared, self.folder()
        if folder is not None and not self._cleaned:
            remove_stale(folder)
            self._cleaned = True
        cut = self._cut(layers)
        if cut is None or cut.layers != layers:
            raise NoRoom("the network cannot be divided as it was")
        images = len(prepared.data.train)
        size = images * sum(spec.bytes for spec in cut.specs)
        image_bytes = 4 * torch.Size(self._shape).numel()
        try:
            place = choose_place(size, images, image_bytes, prepared.device, folder)
            return FeatureCache(
                cut,
                prepared.data.train,
                self._shape,
                place,
                folder,
                prepared.device,
                path=prepared.path,
                precision=self._precision,
                compiled=self._compile,
            )
        except OSError as error:  # of the file: nothing else is read yet
            if folder is not None:
                remove_stale(folder)
            raise NoRoom(describe(error)) from error

    def _give_up(self, layers: frozenset[str], reason: str) -> None:
        """Train without the features of `layers` from here on, also where the run goes on some day."""
        use = self._trainer.features
        use.given_up.add(layers)
        if use.layers == layers:
            self._discard("")
            # The choice is made anew, as it is where the run goes on, or is replayed.
            use.layers, use.settled = frozenset(), False
            self._trainer.restart_batches()
        self._reporter.emit(FeaturesChanged(state="off", layers=tuple(sorted(layers)), reason=reason))

    def _discard(self, reason: str) -> None:
        use = self._trainer.features
        if use.filling is not None:
            use.filling.close()
            use.filling = None
        use.forget(reason)
        if reason:
            self._tell_dropped()

    def layers_changed(self) -> None:
        """Give up features of layers that do not stay the same any more."""
        # Now, and not when they are needed: by then the layers may be frozen again, with other weights.
        if self._scores is not None and not self._scores.cut.layers <= self._trainer.freezer.fixed:
            self._forget_scores()
        self._tell_dropped()

    def _tell_dropped(self) -> None:
        """Report features that had to go, and why, if there are any."""
        use = self._trainer.features
        if use.dropped:
            self._reporter.emit(FeaturesChanged(state="dropped", reason=use.dropped))
            use.dropped = ""

    def trained(self, seconds: float) -> None:
        """Count the `seconds` that some steps took."""
        if self._trained is not None:
            self._trained += seconds

    def epoch_ended(self) -> None:
        """Report what an epoch takes that was trained from features as a whole, once."""
        cache = self._trainer.features.cache
        if self._trained and cache is not None:
            self._tell("held", cache, self._trained)
        self._trained = None

    def _tell(self, state: str, cache: FeatureCache, epoch_seconds: float | None = None) -> None:
        self._reporter.emit(
            FeaturesChanged(
                state="filling" if state == "filling" else "held",
                layers=tuple(sorted(cache.cut.layers)),
                last=cache.cut.last,
                place=cache.store.place,
                bytes=cache.store.bytes,
                images=len(self._prepared.data.train),
                seconds=self._seconds if state == "held" else 0.0,
                epoch_seconds=epoch_seconds,
            )
        )

    def forget(self) -> None:
        """Compute everything again: other weights are loaded."""
        self._discard("other weights are loaded")
        self._forget_scores()

    def close(self) -> None:
        """Give back the memory, and remove the files."""
        self._discard("")
        self._forget_scores()

    # -- evaluation -------------------------------------------------------------------------------------

    def scores(self, part: Part) -> FeatureScores | None:
        """Return what computes the evaluation of `part` from features, and keeps them; None where that gains nothing.

        Only the part that is evaluated while training comes again.
        """
        trainer, data = self._trainer, self._prepared.data
        if not self._wanted or part != data.watched:
            return None
        if not trainer.done:
            held = frozenset() if self._scores is None else self._scores.cut.layers
            found = self._cut_deeper(trainer.stays(trainer.epoch + 1), held, training=False)
            if found is not None:
                self._forget_scores()
                self._scores = self._new_scores(found, part)
        return self._scores

    def _new_scores(self, cut: Cut, part: Part) -> FeatureScores | None:
        prepared, split = self._prepared, self._prepared.data.part(part)
        size = len(split) * sum(spec.bytes for spec in cut.specs)
        try:
            place = choose_place(size, len(split), 4 * torch.Size(self._shape).numel(), prepared.device, None)
        except NoRoom as problem:
            self._say_not_scored(str(problem))
            return None
        return FeatureScores(cut, prepared.model, split, place, prepared.device, self._say_not_scored)

    def _say_not_scored(self, reason: str) -> None:
        self._say(f"the frozen layers are computed at every evaluation: their features cannot be kept: {reason}")

    def _forget_scores(self) -> None:
        if self._scores is not None:
            self._scores.close()
            self._scores = None
