"""The temperature of a checkpoint, read without torch."""

from pathlib import Path

from finetui.engine.checkpoints.archive import ArchiveError, audit
from finetui.engine.checkpoints.pickle_audit import CHECKPOINT


def read_temperature(path: Path) -> float | None:
    """Return the temperature that the checkpoint `path` has, 1 where none was fitted; None where it cannot be read."""
    try:
        with path.open("rb") as file:
            found = audit(file, CHECKPOINT)["about"].get("temperature", 1.0)
    except (OSError, ArchiveError, LookupError, TypeError, AttributeError):
        return None  # whoever loads it says why
    return float(found) if isinstance(found, (int, float)) else None
