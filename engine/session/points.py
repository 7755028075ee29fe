"""What is told at each train point: the means of its steps, where time went, and what a person should look at."""

import math
from typing import Any

import msgspec

from finetui.engine.distributed.ranks import Ranks
from finetui.engine.protocol.config import RunConfig
from finetui.engine.protocol.events import Evaluated, LayersChanged
from finetui.engine.runs.reporter import Reporter
from finetui.engine.session.features import Features
from finetui.engine.session.notices import Notices
from finetui.engine.session.rank_table import RankTable
from finetui.engine.setup.prepared import Prepared
from finetui.engine.training.alerts import AlertWatch
from finetui.engine.training.freezing_effect import EffectMeter
from finetui.engine.training.time_meter import TimeMeter
from finetui.engine.training.trainer import Trainer


class Points:
    """Emits the train points of `trainer`, and the alerts, notices and measurements that follow from them.

    `time` and `rank_table` are to be told of each step.
    """

    def __init__(
        self,
        prepared: Prepared,
        config: RunConfig,
        trainer: Trainer,
        features: Features,
        reporter: Reporter,
        ranks: Ranks,
    ) -> None:
        self.time = TimeMeter(prepared.data.train)
        self.rank_table = RankTable(ranks, trainer.parameters, reporter, prepared.device, prepared.device_name())
        self.notices = Notices(config, prepared.data, prepared.device, reporter, ranks)
        self._trainer = trainer
        self._features = features
        self._reporter = reporter
        self._alerts = AlertWatch(config.guards)
        self._loss = self._steps = 0.0  # summed since the last evaluation
        self.gone_back()

    def emit(self) -> None:
        """Emit what the steps since the last point were like. Raises `Diverged`."""
        with self.rank_table.in_step():
            point = self.time.step(self._trainer.take_point)
        if point is None:
            return
        point = msgspec.structs.replace(point, time_shares=self.time.take())
        self._reporter.emit(point)
        self.rank_table.told(point, self._trainer.parallel)
        assert point.loss is not None and point.samples_per_second, "the trainer tells all of them"
        images = point.steps * self._trainer.training.batch_size
        self._features.trained(images / point.samples_per_second)
        self._loss += point.loss * point.steps
        self._steps += point.steps
        effect = self._effect.add(point, images)
        if effect is not None:
            self._reporter.emit(effect)
        for alert in self._alerts.point(point):
            self._reporter.emit(alert)
        self.notices.after(point, self._trainer)

    def evaluated(self, evaluated: Evaluated) -> None:
        """Alert to what `evaluated` says beside the mean training loss since the last evaluation."""
        loss = self._loss / self._steps if self._steps else math.nan
        self._loss = self._steps = 0.0
        for alert in self._alerts.evaluated(evaluated, loss):
            self._reporter.emit(alert)

    def changed(self) -> None:
        """Compare with nothing from before: somebody, or a stage, has changed how the run trains."""
        self._alerts.changed()

    def layers_changed(self) -> None:
        """Emit the table of layers, of which others are frozen now."""
        freezer = self._trainer.freezer
        self._features.layers_changed()
        self._effect.changed(freezer.trainable())
        self._reporter.emit(LayersChanged(layers=freezer.table()))

    def gone_back(self) -> None:
        """Measure the effect of freezing anew: the run is at another place."""
        self._effect = EffectMeter(self._trainer.freezer.trainable())

    def restart_clocks(self) -> None:
        """Leave the time since the last step, a pause say, out of what the next point tells."""
        self._trainer.restart_clock()
        self.time.restart()
        self.rank_table.restart()

    def state_dict(self) -> dict[str, Any]:
        """Return what a checkpoint must keep."""
        return {"train_loss": [self._loss, self._steps], "alerts": self._alerts.state_dict()}

    def load_state_dict(self, training: dict[str, Any]) -> None:
        """Take over what `state_dict` returned."""
        self._loss, self._steps = training["train_loss"]
        self._alerts.load_state_dict(training["alerts"])
