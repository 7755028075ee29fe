"""Runs of an earlier version: `steered`, `parent` and its finetune `linear-probe`."""

import shutil
from pathlib import Path

OLD_RUNS = Path(__file__).parents[1] / "fixtures" / "runs"


def copy_old_runs(to: Path) -> Path:
    """Copy them to the folder `to`, and return that; the finetune finds its parent where that lies now."""
    shutil.copytree(OLD_RUNS, to)
    for name in ("config.toml", "journal.jsonl"):
        file = to / "linear-probe" / name
        file.write_text(file.read_text().replace("/tmp/fixture/runs", str(to)))
    return to
