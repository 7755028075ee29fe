"""Tags, notes, names, and deleting: asked for in a box over the list, done in a thread, told in a toast."""

import asyncio
from collections.abc import Callable, Coroutine, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from finetui.engine.errors import BadInput
from finetui.engine.runs.folder import RunFolder
from finetui.engine.runs.housekeeping import delete_run, rename_run
from finetui.engine.runs.notes import noted, tagged
from finetui.engine.runs.summaries import RunSummary
from finetui.tui.screens.dialog import Choice, Dialog
from finetui.tui.screens.runs.forms import NameForm, NoteForm, TagForm
from finetui.tui.state.numbers import in_bytes
from finetui.tui.state.run_loss import left_without_parent, loss_of, names_of
from finetui.tui.state.store import Store

if TYPE_CHECKING:
    from finetui.tui.screens.runs.screen import RunsScreen

_MOST_LINES = 8  # of runs that are to be deleted


class Housekeeping:
    """Asks above `screen`; the dashboard is on the run in `store`."""

    def __init__(self, screen: "RunsScreen", store: Store, *, watched: bool = False) -> None:
        """Change nothing of runs that are only `watched`: they are others' files."""
        self._screen = screen
        self._store = store
        self._only_watched = watched

    def why_not(self, action: str, run: RunSummary | None, chosen: Sequence[RunSummary]) -> str:
        """Return in a clause why `action` cannot be done with the `run` under the cursor, or all `chosen` runs."""
        if self._only_watched:
            return "these runs are only watched: finetui does not change their files"
        if run is None:
            return "no run is listed"
        on = {"rename": (run,), "delete": chosen}.get(action, ())
        return next(filter(None, map(self._why_kept, on)), "")

    def tag(self, runs: Sequence[RunSummary]) -> None:
        """Ask for the tags of `runs`."""
        self._ask(self._tag(runs))

    def note(self, run: RunSummary) -> None:
        """Ask for a note on `run`."""
        self._ask(self._note(run))

    def rename(self, run: RunSummary) -> None:
        """Ask for another name of `run`."""
        self._ask(self._rename(run))

    def delete(self, runs: Sequence[RunSummary]) -> None:
        """Ask whether `runs` are to be deleted."""
        self._ask(self._delete(runs))

    def _ask(self, question: Coroutine[Any, Any, None]) -> None:
        self._screen.run_worker(question, group="ask", exclusive=True, exit_on_error=False)

    def _why_kept(self, run: RunSummary) -> str:
        """Return in a clause that an engine or this dashboard has `run`; empty where none has."""
        if run.live:
            stop = f"finetui stop {RunFolder(Path(run.path)).argument}"
            return f"the run {run.name} is live (process {run.pid} on {run.host}). Stop it first: {stop}"
        shown = run.path == self._store.view.path
        return f"the run {run.name} is open in this dashboard. Close it first" if shown else ""

    def _warn(self, text: str) -> None:
        self._screen.notify(text, severity="warning", markup=False)

    async def _do(self, what: Callable[[], str]) -> None:
        """Do `what` in a thread, tell what it returns, and look at the runs again."""
        try:
            self._screen.notify(await asyncio.to_thread(what), markup=False)
        except BadInput as error:
            self._warn(str(error))
        self._screen.look()

    async def _tag(self, runs: Sequence[RunSummary]) -> None:
        common = [tag for tag in runs[0].tags if all(tag in run.tags for run in runs)]
        found = await self._screen.app.push_screen_wait(TagForm([run.name for run in runs], common))
        if found is None:
            return
        gone = [tag for tag in common if tag not in found]

        def write() -> str:
            told = [(run.name, tagged(RunFolder(Path(run.path)), found, gone).tags) for run in runs]
            return "\n".join(f"{name}: {' '.join(tags) or 'no tags'}" for name, tags in told[:_MOST_LINES])

        await self._do(write)

    async def _note(self, run: RunSummary) -> None:
        text = await self._screen.app.push_screen_wait(NoteForm(run.name, run.note))
        if text is not None:
            folder = RunFolder(Path(run.path))
            await self._do(lambda: f"{run.name}: {noted(folder, text).note or 'no note'}")

    async def _rename(self, run: RunSummary) -> None:
        name = await self._screen.app.push_screen_wait(NameForm(run.name))
        if name is None or name == run.name:
            return

        def rename() -> str:
            now, children = rename_run(RunFolder(Path(run.path)), name)
            told = f", also as the parent of {names_of(children)}" if children else ""
            return f"{run.name} is now called {now.name}{told}"

        await self._do(rename)

    async def _delete(self, runs: Sequence[RunSummary]) -> None:
        folders = [RunFolder(Path(run.path)) for run in runs]
        try:
            lines = await asyncio.to_thread(_what_is_lost, folders)
        except BadInput as error:
            self._warn(str(error))
            return
        total = in_bytes(sum(run.size for run in runs))
        title = f"Delete {runs[0].name} ({total})?" if len(runs) == 1 else f"Delete {len(runs)} runs ({total})?"
        choices = (Choice("delete", "enter", "Delete"),)
        if await self._screen.app.push_screen_wait(Dialog(title, lines, choices)) is None:
            return

        def delete() -> str:
            for folder in folders:
                delete_run(folder)
            return f"Deleted {runs[0].name if len(runs) == 1 else f'{len(runs)} runs'} ({total})"

        await self._do(delete)


def _what_is_lost(folders: Sequence[RunFolder]) -> tuple[str, ...]:
    """Return what is lost with the runs in `folders`, in lines. Raises `BadInput` where that cannot be read."""
    lines = [loss_of(folder) for folder in folders[:_MOST_LINES]]
    if len(folders) > _MOST_LINES:
        lines.append(f"and {len(folders) - _MOST_LINES} more")
    for folder, staying in left_without_parent(folders):
        lines.append(f"{names_of(staying)} started from {folder.name}, and cannot be replayed without it.")
    return (*lines, "", "This deletes checkpoints, curves and predictions for good. It cannot be undone.")
