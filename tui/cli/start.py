"""`finetui train`, and starting any run: in this terminal, in the background, or with a dashboard."""

import sys
from collections.abc import Iterator

from finetui.engine.distributed.rank_info import rank_info_from
from finetui.engine.errors import BadInput, FinetuiError
from finetui.engine.protocol.config import RunConfig, with_overrides
from finetui.engine.protocol.events import ENDED, AnyEvent, Log, StateChanged
from finetui.engine.protocol.requests import HostRequest
from finetui.engine.runs import journal
from finetui.engine.runs.begun_runs import begun_run
from finetui.engine.runs.folder import RunFolder
from finetui.engine.runs.resume import resumable
from finetui.engine.runs.summaries import summarise_run
from finetui.tui.cli.options import RunMode, RunOptions, TrainingRecipe
from finetui.tui.cli.printers import LinePrinter

_EXIT_SECONDS = 15.0  # that an engine which has told of its failure may take to end
_BAD_INPUT = 2  # the exit status of an engine that could not use what it was given


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
        Print the journal's events to standard output, one JSON object per line, and nothing else.
    detach
        Train in the background, and return once it has begun.
    """
    mode = RunMode(json=json, detach=detach)
    return start((options or RunOptions()).to_config(recipe=recipe), mode)


def start(config: RunConfig, mode: RunMode, *, resume: RunFolder | None = None, resume_from: str = "") -> int:
    """Train `config` and return the exit status.

    `resume` is the folder of a run, configured by `config`, that goes on instead, from its last checkpoint or the one
    that is kept as `resume_from`. What a job has begun before it was started anew goes on as well. Raises `BadInput`
    for what cannot be used.
    """
    begun = begun_run(config) if resume is None else None
    if begun is not None:
        return _go_on(begun, config, mode)
    info = rank_info_from()
    if info.world > 1:
        _check_launched(mode)
        config = with_overrides(config, {("training", "processes"): info.local_world})
    if mode.dashboard:
        from finetui.tui.app.launch import open_new_run

        return open_new_run(
            config, start=True, images=mode.images, notify=mode.notify, resume=resume, resume_from=resume_from
        )
    if mode.detach:
        return train_detached(config, resume=resume, resume_from=resume_from)
    task = HostRequest(
        config=config,
        autostart=True,
        resume="" if resume is None else str(resume.path.absolute()),
        resume_from=resume_from,
        json=mode.json,
    )
    if info.world == 1 and config.training.processes > 1:
        from finetui.tui.cli.launched import launch

        launch(task)
    from finetui.tui.cli.headless import train_headless

    return train_headless(task)


def _check_launched(mode: RunMode) -> None:
    """Raise `BadInput` for what processes that were started together cannot do."""
    if mode.dashboard or mode.detach:
        option = "--dashboard" if mode.dashboard else "--detach"
        raise BadInput(
            f"{option}: this is one of several processes that were started together; leave it out, and watch the run "
            "from another terminal with finetui attach"
        )


def _go_on(begun: RunFolder, config: RunConfig, mode: RunMode) -> int:
    """Go on with the run that this job has `begun` with `config`, unless that is over."""
    summary = summarise_run(begun)
    if summary is not None and summary.state == "finished":
        print(f"{begun.name}, which this job began, has finished", file=sys.stderr)
        return 0
    print(f"continues {begun.name}, which this job began", file=sys.stderr, flush=True)
    # A person's own code is that which this command names.
    again = resumable(begun, model=config.model.name, data=config.data.name)
    return start(with_overrides(again, {("training", "processes"): config.training.processes}), mode, resume=begun)


def train_detached(config: RunConfig, *, resume: RunFolder | None = None, resume_from: str = "") -> int:
    """Have an engine process train `config`, wait until it has begun, say how to get at it, and return 0.

    `resume` is the folder of a run, configured by `config`, that goes on from its last checkpoint, or from the one that
    is kept as `resume_from`. Raises `BadInput` and `FinetuiError` where it does not begin.
    """
    from finetui.engine.link.process_link import ProcessLink
    from finetui.tui.cli.steer import running

    past = journal.last_event(resume.journal) if resume is not None and resume.journal.is_file() else None
    link = ProcessLink(config, autostart=True, detached=True, resume=resume, resume_from=resume_from)
    with running(link) as events:
        try:
            begun = _first_state(events, after=-1 if past is None else past.seq)
        except KeyboardInterrupt:
            link.terminate()  # nothing has begun, and nothing shall
            raise
    if begun.state in ("failed", "crashed"):
        raise (BadInput if link.wait(_EXIT_SECONDS) == _BAD_INPUT else FinetuiError)(begun.reason)
    assert link.folder is not None, "a run that has begun has a folder"
    run = link.folder.argument
    print(f"{link.folder.name}: {begun.state} in the background, process {link.pid}")
    print(f"  watch and steer it:  finetui attach {run}")
    print(f"  stop it:             finetui stop {run}")
    return 0


def _first_state(events: Iterator[AnyEvent], *, after: int) -> StateChanged:
    """Return the first event that tells that training has begun, or will not; the journal's up to `after` are past."""
    printer = LinePrinter()
    for event in events:
        if 0 <= event.seq <= after:
            continue
        if isinstance(event, StateChanged) and (event.state == "running" or event.state in ENDED):
            return event
        if isinstance(event, Log):
            print(event.message, file=sys.stderr, flush=True)
        else:
            printer.show(event)
    raise FinetuiError("the engine process ended before training began")
