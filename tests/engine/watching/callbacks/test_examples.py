"""The libraries' own examples, cut down to run offline, with one line added: seen, paused, frozen."""

import importlib.util
import os
import subprocess
import sys
from pathlib import Path

import pytest
from person import Person, journal, states
from watching import until

import finetui
from finetui.engine.protocol import commands, events

pytestmark = pytest.mark.peers
SUPPORT = Path(__file__).parents[3] / "support"
ROOT = Path(finetui.__file__).parents[1]


@pytest.mark.parametrize(
    ("example", "frozen", "needs"),
    [
        ("lightning_digits", "network.conv", ("lightning", "torchmetrics")),
        ("transformers_digits", "vit.embeddings", ("transformers", "accelerate")),
    ],
)
def test_an_example_with_one_line_added(example: str, frozen: str, needs: tuple[str, ...], tmp_path: Path) -> None:
    if missing := [name for name in needs if importlib.util.find_spec(name) is None]:
        pytest.skip(f"needs {missing[0]}")
    path = os.pathsep.join([str(SUPPORT), str(ROOT)])
    seen: dict[str, events.AnyEvent] = {}

    def script(person: Person) -> None:
        person.watcher.until_kind(events.Evaluated)
        at = person.does(commands.Pause())
        person.does(commands.SetFrozen(groups=(frozen,), frozen=True))
        seen["layers"] = person.last(events.LayersChanged)
        person.does(commands.Resume())
        person.waits_for_step(at + 20)
        person.does(commands.Stop())

    with subprocess.Popen(
        [sys.executable, str(SUPPORT / "examples" / f"{example}.py"), str(tmp_path)],
        env=os.environ | {"PYTHONPATH": path},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    ) as process:
        try:
            with Person(tmp_path / "runs", script):
                output, _ = process.communicate(timeout=120)
        finally:
            process.kill()
    assert process.returncode == 0, output
    assert "finetui" not in output  # nothing is printed on a person's terminal
    until(lambda: states(journal(tmp_path / "runs"))[-1] == "stopped")
    told = journal(tmp_path / "runs")
    (prepared,) = (event for event in told if isinstance(event, events.RunPrepared))
    assert (prepared.data.channels, prepared.data.height, prepared.data.width) == (1, 28, 28)
    layers = [layer for group in seen["layers"].layers for layer in group.layers]
    assert {layer.name for layer in layers if layer.frozen} >= {
        layer.name for layer in layers if layer.name.startswith(frozen)
    }
    evaluated = [event for event in told if isinstance(event, events.Evaluated)]
    assert {event.n for event in evaluated} <= {100, 200}
    assert all(event.predictions for event in evaluated)
    assert any("acc" in name for name in evaluated[-1].others)
