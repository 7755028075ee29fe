"""What the Runs screen tells of one run, in words."""

from rich.cells import cell_len

from finetui.engine.protocol.provenance import Provenance
from finetui.engine.runs.summaries import RunSummary
from finetui.tui.screens.runs.details import details

PROVENANCE = Provenance(
    command=("finetui", "train", "--data", "mnist", "--name", "a"), folder="/home/me", data="ab" * 32
)


RUN = RunSummary(
    name="a",
    path="/home/me/checkpoints/a",
    state="finished",
    data="mnist",
    model="lenet",
    epoch=3,
    step=300,
    best_accuracy=0.98,
    started="2026-11-27T10:00:00",
    parent=None,
    provenance=PROVENANCE,
)


def test_what_is_longer_than_the_panel_goes_on_below_itself() -> None:
    for width in (24, 40, 80):
        lines = [line.plain for line in details(RUN, [RUN], width).split("\n")]
        assert all(cell_len(line) <= width for line in lines)
        start = next(at for at, line in enumerate(lines) if line.startswith("Command "))
        end = next(at for at, line in enumerate(lines) if line.startswith("In "))
        assert all(line.startswith(" " * 11) for line in lines[start + 1 : end])
        assert " ".join(line[11:].strip() for line in lines[start:end]) == "finetui train --data mnist --name a"
    assert sum(line.startswith("Data ") for line in lines) == 2  # which data, and their hash
    assert any(line.startswith("Data hash  SHA-256 abab") for line in lines)
    assert not any(line.startswith("Size") for line in lines)  # nobody told it
