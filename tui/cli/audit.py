"""`finetui audit`: which tensors of a run that trains now move, train, or only claim to."""

from pathlib import Path
from typing import Annotated

from cyclopts import Parameter

from finetui.engine.errors import BadInput, FinetuiError
from finetui.engine.protocol.audit import Audit, AuditedTensor
from finetui.engine.protocol.commands import AuditParameters
from finetui.engine.protocol.events import CommandRefused, ParametersAudited
from finetui.engine.runs.folder import RunFolder, find_run, is_own_loop
from finetui.engine.runs.lock import is_live
from finetui.engine.text import clean
from finetui.tui.cli.complete import live
from finetui.tui.cli.options import RunsDir
from finetui.tui.cli.reports import output_width, print_json, table
from finetui.tui.state.audited import HEADING, cells, reasons_by_name

WRONG = 1  # the exit status where something is


def audit(
    run: Annotated[str, Parameter(help="The run: its name or its folder.", completer=live)],
    /,
    *,
    steps: int = 20,
    runs_dir: RunsDir = Path("checkpoints"),
    all: bool = False,  # noqa: A002
    json: bool = False,
) -> int:
    """Watch a live run for some steps, and report which tensors are frozen, which train, and which only claim to.

    The exit status is 1 if a tensor claims to be frozen and moves, or claims to train and does not.

    Parameters
    ----------
    steps
        How many steps to watch (default: 20).
    all
        List every parameter and buffer, not only the wrong ones.
    json
        Print one JSON object: steps, tensors and findings.
    """
    if steps < 1:
        raise BadInput(f"steps (--steps) must be a whole number of at least 1, not {steps}")
    found = _ask(find_run(run, runs_dir), steps)
    if json:
        print_json(found)
    else:
        _print(found, all)
    return WRONG if found.wrong else 0


def _ask(folder: RunFolder, steps: int) -> Audit:
    """Return the audit of the run in `folder`. Raises `BadInput` where it does not train, or will not say."""
    from finetui.engine.link.attach_link import AttachLink
    from finetui.engine.link.socket_link import NO_ANSWER
    from finetui.tui.cli.steer import ask

    if not is_live(folder):
        goes_on = "start the loop" if is_own_loop(folder) else f"resume it (finetui resume {folder.argument})"
        raise BadInput(
            f"the run {folder.name} is not training, and the audit needs training steps; {goes_on}, then try again"
        )
    answer = ask(AttachLink(folder, reading=True), AuditParameters(steps=steps))
    if isinstance(answer, ParametersAudited):
        return answer.audit
    assert isinstance(answer, CommandRefused), "a question is answered or refused"
    reason = answer.reason
    if reason in NO_ANSWER:
        raise FinetuiError(f"{reason} without an answer")
    raise BadInput(f"the run {folder.name} cannot be audited: {reason}")


def _print(found: Audit, whole: bool) -> None:
    reasons = reasons_by_name(found)
    shown = [tensor for tensor in found.tensors if whole or tensor.name in reasons]
    if shown:
        print(_table(shown))
        print()
    for names, reason, wrong in found.grouped():
        print(f"{'✗' if wrong else '·'} {clean(names, 300)}: {clean(reason, 400)}")
    print(found.verdict())


def _table(tensors: list[AuditedTensor]) -> str:
    rows = [[name.upper() for name in HEADING], *(list(cells(tensor)) for tensor in tensors)]
    spare = output_width() - sum(max(len(row[i]) for row in rows) + 2 for i in range(1, len(HEADING)))
    names = max(spare, 16)
    # The end of a name tells more than its beginning.
    cut = [[row[0] if len(row[0]) <= names else f"…{row[0][1 - names :]}", *row[1:]] for row in rows]
    return table(cut, frozenset())
