"""Runs as a tree: each below the one that it was made from."""

from collections.abc import Sequence

from finetui.engine.runs.summaries import RunSummary


def live_first(found: Sequence[RunSummary]) -> list[RunSummary]:
    """Return `found` with those first that an engine has, or a run that was made from them; else in the same order."""
    parents = {run.name: run.parent for run in found}
    wanted: set[str] = set()
    for run in found:
        name: str | None = run.name if run.live else None
        while name is not None and name not in wanted:
            wanted.add(name)
            name = parents.get(name)
    return sorted(found, key=lambda run: run.name not in wanted)


def run_tree(found: Sequence[RunSummary]) -> list[tuple[str, RunSummary]]:
    """Return `found` (newest first) with each finetune below its parent, and the branches to draw before its name."""
    names = {run.name for run in found}
    children: dict[str | None, list[RunSummary]] = {}
    for run in found:
        # A run cannot descend from itself, whatever its journal says.
        parent = run.parent if run.parent in names and run.parent != run.name else None
        children.setdefault(parent, []).append(run)
    tree: list[tuple[str, RunSummary]] = []

    def grow(parent: str | None, indent: str, depth: int) -> None:
        branch = children.pop(parent, [])
        for index, run in enumerate(branch):
            last = index == len(branch) - 1
            tree.append((indent + ("└ " if last else "├ ") if depth else "", run))
            grow(run.name, indent + ("  " if last else "│ ") if depth else "", depth + 1)

    grow(None, "", 0)
    # Runs that descend from each other in a circle hang on no root.
    for name in [name for name in children if name is not None]:
        grow(name, "", 0)
    return tree
