"""A run of trackio, by its own library: in its database on this machine, or where `TRACKIO_SPACE_ID` says."""

import os
import warnings
from typing import Any

import msgspec
import trackio

from finetui.engine.loggers.base import About, finite, settings
from finetui.engine.loggers.matrix_image import matrix_image
from finetui.engine.loggers.series_log import SeriesLog
from finetui.engine.protocol.events import Evaluated
from finetui.engine.protocol.provenance import Provenance


class TrackioLog(SeriesLog):
    """Writes a run of the project `TRACKIO_PROJECT`, by default finetui, named after the run and the end of its id.

    trackio knows its runs by their names, and there may be runs of the same name in several folders.
    """

    def __init__(self, about: About) -> None:
        self._run: trackio.Run | None = None
        self._hints: list[str] = []
        # It raises nothing: what goes wrong, it warns of.
        warnings.showwarning = lambda message, *_, **__: self._hints.append(str(message))
        warnings.simplefilter("always")
        super().__init__(about, "trackio")

    def write(self, step: int, row: dict[str, Any]) -> None:
        """Add a row."""
        assert self._run is not None, "it has begun"
        numbers = {name: value for name, value in row.items() if isinstance(value, float)}
        self._run.log(finite(numbers) | {name: value for name, value in row.items() if name not in numbers}, step=step)

    def matrix(self, scores: Evaluated) -> dict[str, Any]:
        """Return it as an image."""
        picture = matrix_image(scores.confusion, [report.label for report in scores.per_class])
        return {} if picture is None else {f"{scores.part}/confusion_matrix": trackio.Image(picture)}

    def comes_from(self, provenance: Provenance) -> None:
        """Write it as a row of text."""
        text = msgspec.json.format(msgspec.json.encode(provenance)).decode()
        self.write(max(self._highest, 0), {"provenance": trackio.Markdown(f"```json\n{text}\n```")})

    def finish(self, *, failed: bool) -> None:
        """Finish the run, and wait until all is written, or sent."""
        run, self._run = self._run, None
        if run is not None:
            run.finish()

    def take_hint(self) -> str:
        """Return the first thing that trackio has warned of since it was last asked."""
        hints, self._hints = self._hints, []
        return hints[0] if hints else ""

    def _begin(self, name: str, part: int) -> None:
        self._run = trackio.init(
            project=os.environ.get("TRACKIO_PROJECT", "finetui"),
            name=f"{name}-{self.about.id[:6]}",
            group=self._kept.name,
            config={"folder": self.about.folder, **settings(self.about.config)},
            resume="allow",
            embed=False,
            auto_log_gpu=False,
            auto_log_cpu=False,
        )
