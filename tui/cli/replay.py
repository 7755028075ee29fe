"""`finetui replay`: a run once more, and whether it ends with the same weights."""

from pathlib import Path

from finetui.engine.distributed.rank_info import rank_info_from
from finetui.engine.errors import BadInput
from finetui.engine.protocol.config import with_overrides
from finetui.engine.protocol.config_checks import check_run_name
from finetui.engine.protocol.requests import HostRequest
from finetui.engine.runs.folder import find_run, how_it_began
from finetui.engine.runs.resume import configuration
from finetui.engine.runs.trust import check_run_trusted
from finetui.tui.cli.launched import launch
from finetui.tui.cli.options import OwnData, OwnModel, Run, RunsDir
from finetui.tui.cli.replaying import replay_here


def replay(
    run: Run,
    /,
    *,
    name: str = "",
    model: OwnModel = None,
    data: OwnData = None,
    runs_dir: RunsDir = Path("checkpoints"),
    json: bool = False,
) -> int:
    """Repeat a run from its journal, with every manual change at its step, and compare the weights.

    The exit status is 0 if they are the same at every checkpoint, 1 if they are not.

    Parameters
    ----------
    name
        Name of the new run (default: the old name with -replay).
    json
        Print one JSON object: run, path, steps, changes, compared, same, different_at, weights, otherwise.
    """
    folder = find_run(run, runs_dir)
    if name:
        check_run_name(name)
        if (folder.path.absolute().parent / name).exists():
            raise BadInput(f"a run named {name!r} exists already; choose another --name")
    check_run_trusted(configuration(folder), model=model, data=data)
    began = how_it_began(folder)
    world = 1 if began is None else began.world  # on however many nodes: here they are all on one
    config = with_overrides(configuration(folder), {("training", "processes"): world})
    task = HostRequest(config=config, replay=str(folder.path.absolute()), name=name, json=json)
    if world > 1 and rank_info_from().world == 1:
        launch(task)
    return replay_here(task)
