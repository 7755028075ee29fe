"""Where a run's results come from, in words."""

import shlex
from collections.abc import Iterator

from finetui.engine.protocol.provenance import Provenance
from finetui.engine.text import clean

_SHOWN_DIGITS = 16


def facts(provenance: Provenance) -> Iterator[tuple[str, str]]:
    """Yield what is known, each with its label."""
    if provenance.command:
        yield "Command", clean(shlex.join(provenance.command), 2000)
    if provenance.folder:
        yield "In", clean(provenance.folder, 1000)
    for state in provenance.git:
        yield "Commit", f"{clean(state.short)} of {clean(state.folder, 1000)}"
    if provenance.packages:
        yield "Packages", ", ".join(f"{clean(name)} {clean(said)}" for name, said in provenance.packages.items())
    if provenance.device:
        driver = f", driver {clean(provenance.driver)}" if provenance.driver else ""
        yield "Device", f"{clean(provenance.device)}{driver}"
    if provenance.system:
        yield "System", clean(provenance.system)
    if provenance.data:
        yield "Data hash", f"SHA-256 {clean(provenance.data[:_SHOWN_DIGITS])}..."


def in_a_line(provenance: Provenance) -> str:
    """Return the same in one line of the log."""
    return "; ".join(f"{label.lower()} {value}" for label, value in facts(provenance))
