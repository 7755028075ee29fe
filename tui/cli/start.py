"""From the configuration of a run to its training, the way that a command asks for."""

from finetui.engine.protocol.config import RunConfig
from finetui.engine.runs.folder import RunFolder
from finetui.tui.cli.options import RunMode


def begin(config: RunConfig, way: RunMode, *, resume: RunFolder | None = None, resume_from: str = "") -> int:
    """Train `config` and return the exit status.

    `resume` is the folder of a run, configured by `config`, that goes on instead, from its last checkpoint or the one
    that is kept as `resume_from`. Raises `BadInput` for what cannot be used.
    """
    if way.dashboard:
        from finetui.tui.app.launch import open_new_run

        return open_new_run(
            config, start=True, images=way.images, notify=way.notify, resume=resume, resume_from=resume_from
        )
    if way.detach:
        from finetui.tui.cli.detached import train_detached

        return train_detached(config, resume=resume, resume_from=resume_from)
    from finetui.tui.cli.headless import train_headless

    return train_headless(config, as_json=way.json, resume=resume, resume_from=resume_from)
