"""From the configuration of a run to its training, in the mode that a command asks for."""

from finetui.engine.protocol.config import RunConfig
from finetui.engine.runs.folder import RunFolder
from finetui.tui.cli.options import RunMode, RunOptions, TrainingRecipe


def train(
    *,
    options: RunOptions | None = None,
    recipe: TrainingRecipe = "default",
    json: bool = False,
    detach: bool = False,
) -> int:
    """Train without a dashboard; `finetui attach` opens one on it.

    Parameters
    ----------
    json
        Print the journal's events to standard output, one JSON object a line, and nothing else.
    detach
        Train in the background, and return once it has begun.
    """
    mode = RunMode(json=json, detach=detach)
    return start((options or RunOptions()).to_config(recipe=recipe), mode)


def start(config: RunConfig, mode: RunMode, *, resume: RunFolder | None = None, resume_from: str = "") -> int:
    """Train `config` and return the exit status.

    `resume` is the folder of a run, configured by `config`, that goes on instead, from its last checkpoint or the one
    that is kept as `resume_from`. Raises `BadInput` for what cannot be used.
    """
    if mode.dashboard:
        from finetui.tui.app.launch import open_new_run

        return open_new_run(
            config, start=True, images=mode.images, notify=mode.notify, resume=resume, resume_from=resume_from
        )
    if mode.detach:
        from finetui.tui.cli.detached import train_detached

        return train_detached(config, resume=resume, resume_from=resume_from)
    from finetui.tui.cli.headless import train_headless

    return train_headless(config, as_json=mode.json, resume=resume, resume_from=resume_from)
