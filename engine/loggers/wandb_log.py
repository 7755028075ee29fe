"""A run of Weights & Biases, by its own library: on its server, or in the run's folder where there is no login."""

import netrc
import os
from contextlib import suppress
from typing import Any
from urllib.parse import urlsplit

import msgspec
import wandb

from finetui.engine.errors import reason_of
from finetui.engine.loggers.base import About
from finetui.engine.loggers.series_log import SeriesLog
from finetui.engine.protocol.events import Evaluated
from finetui.engine.protocol.provenance import Provenance

_CONNECT_SECONDS = 30.0
_MOST_CELLS = 10_000  # what a table of W&B holds by default


class WandbLog(SeriesLog):
    """Writes a run of the project `WANDB_PROJECT`, by default finetui; offline, files below `wandb` in its folder."""

    def __init__(self, about: About) -> None:
        self._run: wandb.Run | None = None
        self._hint = ""
        self._changes: tuple[int, str] = (-1, "")
        os.environ.setdefault("WANDB_ERROR_REPORTING", "false")
        super().__init__(about, "wandb")

    def write(self, step: int, row: dict[str, Any]) -> None:
        """Add to the row of `step`; of several texts all are kept."""
        assert self._run is not None, "it has begun"
        if "change" in row:
            before = f"{self._changes[1]}; " if self._changes[0] == step else ""
            self._changes = step, before + row["change"]
            row = {"change": self._changes[1]}
        self._run.log(row, step=step)

    def matrix(self, scores: Evaluated) -> dict[str, Any]:
        """Return it as W&B's own chart."""
        names = [report.label for report in scores.per_class]
        if not scores.confusion or len(names) ** 2 > _MOST_CELLS:
            return {}
        counts = zip(names, scores.confusion, strict=True)
        rows = [[true, names[at], images] for true, row in counts for at, images in enumerate(row)]
        table = wandb.Table(columns=["Actual", "Predicted", "nPredictions"], data=rows)
        fields = {name: name for name in table.columns}
        title = {"title": f"{scores.part}, step {scores.step}"}
        chart = wandb.plot_table("wandb/confusion_matrix/v1", table, fields, title)
        return {f"{scores.part}/confusion_matrix": chart}

    def comes_from(self, provenance: Provenance) -> None:
        """Put it into the run's config."""
        assert self._run is not None, "it has begun"
        self._run.config.update({"provenance": msgspec.to_builtins(provenance)}, allow_val_change=True)

    def finish(self, *, failed: bool) -> None:
        """Finish the run, and wait until all is written, or sent."""
        run, self._run = self._run, None
        if run is not None:
            run.finish(exit_code=int(failed))

    def take_hint(self) -> str:
        """Return why it is logged offline, once."""
        hint, self._hint = self._hint, ""
        return hint

    def _begin(self, name: str, part: int) -> None:
        mode = os.environ.get("WANDB_MODE") or ("online" if _has_login() else "offline")
        if mode == "offline" and not os.environ.get("WANDB_MODE"):
            self._hint = (
                "W&B has no login on this machine: the run is logged offline, into its folder; `wandb sync` sends it"
            )
        try:
            self._run = self._init(name, part, mode)
        except wandb.Error as error:
            if mode != "online":
                raise
            self._hint = f"W&B cannot be reached ({reason_of(error, 100)}): the run is logged offline, into its folder"
            self._run = self._init(name, part, "offline")

    def _init(self, name: str, part: int, mode: str) -> wandb.Run:
        about = self.about
        return wandb.init(
            project=os.environ.get("WANDB_PROJECT", "finetui"),
            id=about.id if part == 1 else f"{about.id}-{part}",
            name=name,
            group=self._kept.name,
            dir=about.folder,
            config=msgspec.to_builtins(about.config),
            mode=mode,
            resume="allow" if mode == "online" else None,  # offline there is nobody to ask
            settings=wandb.Settings(
                silent=True,
                console="off",
                init_timeout=_CONNECT_SECONDS,
                # finetui tells of the machine, the code and the packages itself.
                x_disable_stats=True,
                x_disable_meta=True,
                x_save_requirements=False,
                disable_git=True,
                disable_code=True,
                save_code=False,
            ),
        )


def _has_login() -> bool:
    """Whether W&B would find a key, or a token: where its own library looks for them."""
    if os.environ.get("WANDB_API_KEY") or os.environ.get("WANDB_IDENTITY_TOKEN_FILE"):
        return True
    host = urlsplit(os.environ.get("WANDB_BASE_URL", "https://api.wandb.ai")).hostname or ""
    with suppress(OSError, netrc.NetrcParseError):
        return netrc.netrc(os.environ.get("NETRC")).authenticators(host) is not None
    return False
