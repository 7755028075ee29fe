"""What W&B and trackio have in common: a run's steps only ever rise, and nothing that was written is taken back."""

from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

import msgspec

from finetui.engine import files
from finetui.engine.loggers.base import About, RunLog
from finetui.engine.protocol.events import Evaluated, Rewound, TrainPoint


class _Kept(msgspec.Struct, kw_only=True):
    """What has to be known when the run goes on: under which `name` it was begun, in which `part` it is, up to which
    step points were written (None: the log was not ended, so nobody knows), and evaluations of each part of the data.
    """

    name: str
    part: int = 1
    last: int | None = None
    evaluated: dict[str, int] = {}


class SeriesLog(RunLog):
    """Writes rows of figures, each for one step, to a run of a tool.

    Steps that a resumed run takes again are the same ones, and stay as they were written. A run that was rolled back
    goes on in a second run of the tool, in the same group, whose name ends in `-part2`.
    """

    def __init__(self, about: About, tool: str) -> None:
        self.about = about
        self._file = Path(about.folder) / f"{tool}.json"
        self._kept = _Kept(name=about.name)
        with suppress(OSError, msgspec.DecodeError):  # of a new run there is none
            self._kept = msgspec.json.decode(self._file.read_bytes(), type=_Kept)
        self._highest = max(self._kept.evaluated.values(), default=-1)  # the last step that was written
        self._again = -1  # steps up to this one are taken again
        self._before, self._kept.last = self._kept.last, None
        self._last = -1 if self._before is None else self._before
        self._save()
        self._begin(self._part_name(), self._kept.part)

    def point(self, point: TrainPoint, values: Mapping[str, float]) -> None:
        """Write a row, unless that step was written before the run was cut."""
        if point.step > self._again:
            self._write_row(point.step, dict(values))
            self._last = point.step

    def evaluated(self, scores: Evaluated, values: Mapping[str, float]) -> None:
        """Write a row with the figures, and with the confusion matrix as the tool has it, unless that was done."""
        which = f"{scores.part} {scores.checkpoint}"
        if scores.step > self._kept.evaluated.get(which, -1):
            self._write_row(scores.step, {**values, **self.matrix(scores)})
            self._kept.evaluated[which] = scores.step
            self._save()

    def note(self, step: int, time: float, text: str) -> None:
        """Write a row with the text, at the last step where the run has gone back."""
        self._write_row(step, {"change": self.text(text)})

    def go_back(self, rewound: Rewound) -> None:
        """Write on where the steps are the same as before; else begin another part."""
        if rewound.cause == "resume":
            self._again = rewound.step + rewound.undone if self._before is None else self._before
            self._highest = max(self._highest, self._again)
        elif rewound.cause == "rollback" and rewound.step < self._highest:
            self.finish(failed=False)
            self._kept.part += 1
            self._kept.evaluated.clear()
            self._highest = self._again = self._last = -1
            self._save()
            self._begin(self._part_name(), self._kept.part)

    def close(self, *, failed: bool = False) -> None:
        """End the tool's run, and keep how far it came."""
        self.finish(failed=failed)
        self._kept.last = self._last
        self._save()

    def _part_name(self) -> str:
        return self._kept.name if self._kept.part == 1 else f"{self._kept.name}-part{self._kept.part}"

    def _save(self) -> None:
        with files.replacing(self._file, synced=False) as file:
            file.write(msgspec.json.encode(self._kept))

    def _write_row(self, step: int, row: dict[str, Any]) -> None:
        self._highest = max(self._highest, step)
        self.write(self._highest, row)

    # -- what a tool does ------------------------------------------------------------------------------------

    def _begin(self, name: str, part: int) -> None:
        """Begin a run of the tool, or go on with it."""
        raise NotImplementedError

    def finish(self, *, failed: bool) -> None:
        """End the run of the tool, and wait until all is written, or sent."""
        raise NotImplementedError

    def write(self, step: int, row: dict[str, Any]) -> None:
        """Write a row."""
        raise NotImplementedError

    def matrix(self, scores: Evaluated) -> dict[str, Any]:
        """Return the confusion matrix as the tool has it, by its name; nothing where there is none."""
        raise NotImplementedError

    def text(self, text: str) -> Any:
        """Return a text as the tool has it."""
        return text
