"""TensorBoard event files in the run's folder, by TensorBoard's own record writer and messages.

Not by PyTorch's `SummaryWriter`: it writes in a thread of its own, which dies with a full disk, and waits for it for
ever; and it loads TensorFlow where that is installed.
"""

import io
import math
import os
import time
from collections.abc import Mapping
from pathlib import Path

import msgspec
from tensorboard.compat.proto.event_pb2 import Event, SessionLog
from tensorboard.compat.proto.summary_pb2 import Summary, SummaryMetadata
from tensorboard.compat.proto.tensor_pb2 import TensorProto
from tensorboard.compat.proto.tensor_shape_pb2 import TensorShapeProto
from tensorboard.compat.proto.types_pb2 import DT_STRING
from tensorboard.plugins.hparams import api_pb2, metadata as hparams
from tensorboard.plugins.hparams.plugin_data_pb2 import HParamsPluginData, SessionEndInfo, SessionStartInfo
from tensorboard.summary.writer.record_writer import RecordWriter

from finetui.engine.loggers.base import About, RunLog, settings
from finetui.engine.loggers.matrix_image import matrix_image
from finetui.engine.protocol.events import Evaluated, Rewound, TrainPoint
from finetui.engine.protocol.provenance import Provenance

_CHANGES, _PROVENANCE = "changes", "provenance"


class TensorBoardLog(RunLog):
    """Writes one more event file below `tensorboard` in the run's folder; one record for each event of the run.

    Whoever reads the files drops what was written of later steps where a `SessionLog` says that the run went back.
    """

    def __init__(self, about: About) -> None:
        folder = Path(about.folder) / "tensorboard"
        folder.mkdir(exist_ok=True)
        began = time.time()
        # Names sort by the time they began, and no two processes have the same.
        name = f"events.out.tfevents.{began:017.6f}.finetui.{os.getpid()}"
        self._file = (folder / name).open("xb")
        self._records = RecordWriter(self._file)
        self._write(Event(file_version="brain.Event:2"), 0, began)
        self._write_settings(about, began)

    def point(self, point: TrainPoint, values: Mapping[str, float]) -> None:
        """Write a scalar for each figure."""
        self._write_summary(point.step, point.time, _scalars(values))

    def evaluated(self, scores: Evaluated, values: Mapping[str, float]) -> None:
        """Write a scalar for each figure, and the confusion matrix as an image."""
        summary = _scalars(values)
        picture = matrix_image(scores.confusion, [report.label for report in scores.per_class])
        if picture is not None:
            png = io.BytesIO()
            picture.save(png, "PNG")
            image = Summary.Image(
                height=picture.height, width=picture.width, colorspace=3, encoded_image_string=png.getvalue()
            )
            summary.append(Summary.Value(tag=f"{scores.part}/confusion_matrix", image=image))
        self._write_summary(scores.step, scores.time, summary)

    def note(self, step: int, time: float, text: str) -> None:
        """Write it as text."""
        self._write_summary(step, time, [_text(_CHANGES, text)])

    def comes_from(self, provenance: Provenance) -> None:
        """Write it as a table of Markdown."""
        rows = msgspec.to_builtins(provenance).items()
        table = "\n".join(["| | |", "|-|-|", *(f"| {name} | {str(value).replace('|', '/')} |" for name, value in rows)])
        self._write_summary(0, time.time(), [_text(_PROVENANCE, table)])

    def go_back(self, rewound: Rewound) -> None:
        """Tell readers to drop what is of later steps; they keep what is of steps before the one they are told."""
        again = Event(session_log=SessionLog(status=SessionLog.START))
        self._write(again, rewound.step + 1, rewound.time)

    def flush(self) -> None:
        """Hand all to the operating system. Raises OSError."""
        self._records.flush()

    def close(self, *, failed: bool = False) -> None:
        """Write how the run ended, and close the file."""
        end = SessionEndInfo(
            status=api_pb2.STATUS_FAILURE if failed else api_pb2.STATUS_SUCCESS, end_time_secs=time.time()
        )
        try:
            self._write_hparams(hparams.SESSION_END_INFO_TAG, HParamsPluginData(session_end_info=end), time.time())
        finally:
            self._records.close()

    def _write_settings(self, about: About, began: float) -> None:
        """Write the settings for the HParams dashboard, and which figures it is to show beside them."""
        values, part = settings(about.config), about.watched
        shown = [api_pb2.MetricInfo(name=api_pb2.MetricName(tag=f"{part}/{name}")) for name in ("accuracy", "loss")]
        experiment = api_pb2.Experiment(hparam_infos=[api_pb2.HParamInfo(name=n) for n in values], metric_infos=shown)
        start = SessionStartInfo(group_name=about.id, start_time_secs=began)
        for name, value in values.items():
            kind = "bool_value" if isinstance(value, bool) else "string_value" if isinstance(value, str) else ""
            setattr(start.hparams[name], kind or "number_value", value)
        self._write_hparams(hparams.EXPERIMENT_TAG, HParamsPluginData(experiment=experiment), began)
        self._write_hparams(hparams.SESSION_START_INFO_TAG, HParamsPluginData(session_start_info=start), began)

    def _write_hparams(self, tag: str, content: HParamsPluginData, at: float) -> None:
        about = hparams.create_summary_metadata(content)
        self._write_summary(0, at, [Summary.Value(tag=tag, metadata=about, tensor=hparams.NULL_TENSOR)])

    def _write_summary(self, step: int, at: float, values: list[Summary.Value]) -> None:
        self._write(Event(summary=Summary(value=values)), step, at)

    def _write(self, event: Event, step: int, at: float) -> None:
        event.step, event.wall_time = step, at
        self._records.write(event.SerializeToString())


def _scalars(values: Mapping[str, float]) -> list[Summary.Value]:
    # A NaN is worth being seen, and TensorBoard shows it.
    return [Summary.Value(tag=name, simple_value=_float32(value)) for name, value in values.items()]


def _float32(value: float) -> float:
    """Return `value` in the range of float32, which is what a scalar is."""
    return math.copysign(math.inf, value) if abs(value) > 3.4e38 else value


def _text(tag: str, text: str) -> Summary.Value:
    plugin = SummaryMetadata.PluginData(plugin_name="text")
    tensor = TensorProto(dtype=DT_STRING, string_val=[text.encode()], tensor_shape=TensorShapeProto())
    tensor.tensor_shape.dim.add(size=1)
    return Summary.Value(tag=tag, metadata=SummaryMetadata(plugin_data=plugin), tensor=tensor)
