"""Runs that go on: resumed, branched, rolled back, replayed. What is checked before an engine is started for them."""

from contextlib import closing, nullcontext

import msgspec

import finetui
from finetui.engine.errors import BadInput
from finetui.engine.link.process_link import ProcessLink
from finetui.engine.protocol.config import RunConfig, check_run_name, is_factory, load, with_overrides
from finetui.engine.runs import kept_checkpoints
from finetui.engine.runs.derived import branch_config
from finetui.engine.runs.folder import RunFolder, holder_of, how_it_began
from finetui.engine.runs.summaries import summarise_run
from finetui.engine.text import clean
from finetui.tui.cli.headless import choose_printer
from finetui.tui.cli.reports import print_json


class Report(msgspec.Struct, frozen=True, kw_only=True):
    """What `finetui replay --json` prints; `weights` is the SHA-256 of the run's last weights."""

    run: str
    path: str
    steps: int
    changes: int
    compared: int
    same: bool
    different_at: int | None
    weights: str


def resumable(
    folder: RunFolder, checkpoint: str = "", *, model: str | None = None, data: str | None = None
) -> RunConfig:
    """Return the configuration with which the run in `folder` goes on from `checkpoint`, by default its last one.

    A person's own code that it uses has to be named as `model` and `data`: a run folder may come from anywhere. Raises
    `BadInput` that says what can be done instead when the run cannot go on.
    """
    name = folder.name
    there = holder_of(folder)
    if there is not None:
        raise BadInput(f"the run {name} is live ({there}): finetui attach {folder.argument}")
    files = sorted(folder.path.glob("*.ckpt"))
    if not files:
        raise BadInput(f"the run {name} has no checkpoint to go on from: it was cut before its first one was written")
    if checkpoint and not folder.checkpoint(checkpoint).is_file():
        known = ", ".join(file.stem for file in files)
        raise BadInput(f"the run {name} has no checkpoint {clean(checkpoint)!r}; there are: {known}")
    summary = summarise_run(folder) if folder.journal.is_file() else None
    if summary is not None and summary.state == "finished" and not checkpoint:
        raise BadInput(
            f"the run {name} has finished all its epochs; start a finetune from it (finetui finetune --from "
            f"{folder.argument}), or go back to a checkpoint (finetui resume {folder.argument} --checkpoint NAME)"
        )
    return trusted(configuration(folder), model=model, data=data)


def link_to_resumed(folder: RunFolder, *, own: bool) -> ProcessLink:
    """Return the link to a new engine that goes on with the run in `folder`. Raises `BadInput` when it cannot.

    With `own` a person has started that run here, with code of their own if it uses any.
    """
    config = configuration(folder)
    named = {"model": config.model.name, "data": config.data.name} if own else {"model": None, "data": None}
    return ProcessLink(resumable(folder, **named), autostart=True, resume=folder)


def configuration(folder: RunFolder) -> RunConfig:
    """Return the configuration of the run in `folder`, kept where it lies now. Raises `BadInput`."""
    began = None if folder.config.is_file() else how_it_began(folder)
    config = began.config if began is not None else load(folder.config)
    return with_overrides(config, {("run", "runs_dir"): str(folder.path.absolute().parent)})


def trusted(config: RunConfig, *, model: str | None, data: str | None) -> RunConfig:
    """Return `config`. Raises `BadInput` when it names a person's own code that the person does not name again."""
    for option, name, given in (("--model", config.model.name, model), ("--data", config.data.name, data)):
        if is_factory(name) and given != name:
            code = clean(name)
            raise BadInput(f"the run uses the code {code}; if you trust that code, name it: {option} {code}")
    return config


def branched(folder: RunFolder, checkpoint: str, name: str, epochs: int | None) -> RunConfig:
    """Return the configuration of a new run that goes on from a kept `checkpoint` of the run in `folder`.

    The checkpoint is kept from now on, whatever that run writes. Raises `BadInput`.
    """
    config = configuration(folder)
    if epochs is not None:
        config = with_overrides(config, {("training", "epochs"): epochs})
    branch_config(config, folder.last, folder.name, name)  # a name that is taken is said before anything is kept
    pinned = kept_checkpoints.pin(folder, kept_checkpoints.of(folder), checkpoint)
    return branch_config(config, folder.path / pinned.file, folder.name, name)


def replay_headless(folder: RunFolder, *, name: str, model: str | None, data: str | None, as_json: bool) -> int:
    """Replay the run in `folder`, say whether it ended with the same weights, and return the exit status."""
    if name:
        check_run_name(name)
        if (folder.path.absolute().parent / name).exists():
            raise BadInput(f"a run named {name!r} exists already; choose another --name")
    trusted(configuration(folder), model=model, data=data)
    with nullcontext(None) if as_json else closing(choose_printer(as_json=False)) as printer:
        found = finetui.replay_run(folder, name=name, sinks=[] if printer is None else [printer.show])
    recording = found.recording
    same = found.complete and found.different_at is None
    if as_json:
        report = Report(
            run=found.folder.name,
            path=str(found.folder.path.absolute()),
            steps=recording.end,
            changes=len(recording.changes),
            compared=found.compared,
            same=same,
            different_at=found.different_at,
            weights=recording.weights[recording.end],
        )
        print_json(report)
        return 0 if same else 1
    done = f"replayed {recording.end:,} steps with {_changes(len(recording.changes))} as {found.folder.name}"
    if same:
        digest = recording.weights[recording.end][:16]
        print(f"{done}: the same weights at all {found.compared} checkpoints (SHA-256 {digest}...)")
    elif found.different_at is not None:
        print(f"{done}: the weights differ, first seen at the checkpoint of step {found.different_at:,}")
    else:
        print(f"{done}: it was stopped before the end, so the last weights could not be compared")
    return 0 if same else 1


def _changes(count: int) -> str:
    return "nothing changed by hand" if not count else f"{count} change{'s' if count > 1 else ''} by hand"
