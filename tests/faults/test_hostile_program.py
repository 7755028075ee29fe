"""Hostile names, lines and fields in the whole program: what the engine says, and every byte that is sent."""

import json
import os
import re
import shutil
from collections.abc import Sequence
from functools import partial
from pathlib import Path

import msgspec
import numpy as np
import pytest
from canned import evaluated, prepared, running
from canned_predictions import predictions, saved
from command_line import FINETUI
from hostile_run import HARMLESS, file_names, poisoned, texts
from hostile_text import HOSTILE, obeyed
from PIL import Image
from pty_terminal import PtyTerminal

from finetui import Session
from finetui.engine.protocol import commands, events
from finetui.engine.protocol.config import DataConfig, RunConfig, RunSection, TrainingConfig
from finetui.engine.protocol.events import AnyEvent, RunPrepared, RunStarted
from finetui.engine.runs.journal import encode_line
from finetui.tui.cli.main import run


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a folder with a run `real`, of LeNet on images whose files and folders have hostile names."""
    folder = tmp_path_factory.mktemp("hostile")
    noise = np.random.default_rng(0)
    for name in map(os.fsdecode, file_names(HOSTILE)):
        (folder / "data" / name).mkdir(parents=True)
        for number in range(3):
            pixels = noise.integers(0, 256, (28, 28), dtype=np.uint8)
            Image.fromarray(pixels).save(folder / "data" / name / f"{number} {name}.png")
        (folder / "data" / name / f"broken {name}.png").write_bytes(b"no image")
    config = RunConfig(
        data=DataConfig(name=str(folder / "data")),
        training=TrainingConfig(epochs=1, batch_size=16, device="cpu"),
        run=RunSection(name="real", runs_dir=str(folder / "checkpoints")),
    )
    assert Session(config).run().state == "finished"
    return folder


def test_an_engine_says_nothing_harmful_of_hostile_files(trained: Path) -> None:
    """Row 23: classes, files that cannot be read, and their places are cleaned where the engine finds them."""
    lines = (trained / "checkpoints" / "real" / "journal.jsonl").read_bytes().splitlines()
    told = [json.loads(line) for line in lines]
    assert [text for event in told for text in texts(event) if obeyed(text)] == []
    (described,) = [event for event in told if event["type"] == "run_prepared"]
    assert len(described["data"]["classes"]) == len(file_names(HOSTILE))
    assert sum("broken" in event.get("message", "") for event in told) == len(file_names(HOSTILE))


def poison(folder: Path, names: Sequence[str]) -> None:
    """Add events, output and other runs with `names` to the run `real` in `folder`."""
    path = folder / "checkpoints" / "real"
    if not path.exists():
        path.mkdir(parents=True)
        saved(path, predictions(4 * len(names), paths=tuple(f"/data/{name}" for name in names) * 4))
        started = running(msgspec.structs.replace(evaluated(1, 0.9), predictions="last.predictions"))
        started[2] = RunStarted(name="real", path=str(path))
        (path / "journal.jsonl").write_bytes(b"".join(map(encode_line, started)))
    writable = [name.encode("utf-8", "replace").decode() for name in names]
    more: list[AnyEvent] = [events.Log(level="warning", message=name) for name in writable]
    more += [events.CommandAccepted(command=commands.Pause(by=name)) for name in writable]
    more += [events.StateChanged(state="failed", reason=writable[0])]
    with (path / "journal.jsonl").open("ab") as file:
        file.writelines(map(encode_line, more))
    (path / "engine.log").write_bytes(b"\n".join(name.encode("utf-8", "surrogatepass") for name in names))
    for name, text in zip(file_names(names), writable, strict=False):
        other = path.parent / os.fsdecode(name)
        other.mkdir()
        (other / "journal.jsonl").write_bytes(encode_line(poisoned(prepared(parent=text), RunPrepared, text)))


# Keys, a word by which one sees that they were obeyed, and one that is gone by then: what was there before may stay
# in sight below, or be the name of a key.
PLACES = (
    ("", "failed", "preparing"),
    ("\t\x1b[B\x1b[B", "m Errors", "preparing"),
    ("F\x1b[B\x1b[B", "m Errors", "preparing"),
    ("o", "lines", "m Errors"),
    ("\x1b[H", "end: follow", "m Errors"),
    ("\x1b[6~", "lines", "m Errors"),
    ("2", "Engine output", "Warnings"),
    ("q", "m Errors", "Engine output"),
    ("m", "highest loss first", "m Errors"),
    ("\x1b[C\x1b[C\x1b[C", "highest loss first", "m Errors"),
    ("C", "Confusion matrix", "Enlarge"),
    ("\x1b", "Enlarge", "Confusion matrix"),
    ("D", "Compare with", "m Errors"),
    ("\x1b", "Enlarge", "Compare with"),
    ("q", "m Errors", "Enlarge"),
    ("r", "lr>0.01", "m Errors"),
    ("\x1b", "m Errors", "lr>0.01"),
    ("g", "esc Back", "m Errors"),
    ("\x1b[B\x1b[B", "esc Back", "m Errors"),
    ("q", "m Errors", "esc Back"),
    ("?", "The run: its curves", "preparing"),
    ("\x1b", "m Errors", "The run: its curves"),
)
# A control sequence, one that carries a string, one of two characters, or another control character.
_CONTROL = re.compile(
    r"\x1b\[[0-?]*[ -/]*[@-~]|\x1b[\]PX^_].*?(?:\x07|\x1b\\)|\x1b[ -/]*[0-~]|[\x00-\x1f\x7f-\x9f]", re.S
)


def kinds(raw: bytes) -> set[str]:
    """Return what a terminal is told to do by `raw`: colours and places apart, every sequence as it is."""
    text = raw.decode()  # bytes that are no text would be a fault of their own
    found = set()
    for sequence in _CONTROL.findall(text):
        sequence = re.sub(r"[34]8;2;\d+;\d+;\d+", "colour", sequence)
        if sequence.endswith("m") and sequence.startswith("\x1b["):
            found |= {f"SGR {part}" for part in sequence[2:-1].split(";")}
        elif place := re.fullmatch(r"\x1b\[(\d+);(\d+)H", sequence):
            row, column = map(int, place.groups())
            found.add("to a place" if row <= 24 and column <= 80 else sequence)
        elif onward := re.fullmatch(r"\x1b\[(\d*)C", sequence):
            found.add("onward" if int(onward[1] or 1) < 80 else sequence)
        else:
            found.add(sequence)
    return found


def _is_there(terminal: PtyTerminal, word: str, gone: str) -> bool:
    text = terminal.text()
    return word in text and gone not in text


def visit(terminal: PtyTerminal) -> list[tuple[str, str]]:
    """Go to all places, and out; return the beginning of the first line and the last line in each."""
    seen = []
    for keys, word, gone in PLACES:
        terminal.type(keys)
        there = partial(_is_there, terminal, word, gone)
        terminal.until_true(there, f"{word!r} did not take the place of {gone!r}")
        terminal.until_true(lambda: terminal.lines()[23].strip(), "there is no footer")
        terminal.read_all()
        seen.append((terminal.lines()[0][:6], terminal.lines()[23]))
    terminal.type("q")
    assert terminal.until_exit() == 1  # the run had failed
    return seen


@pytest.mark.slow
def test_no_foreign_byte_reaches_the_terminal(trained: Path, tmp_path: Path) -> None:
    """Row 23: what is sent to a real terminal is text, and control sequences that a harmless run sends as well."""
    hostile = tmp_path / "hostile"
    shutil.copytree(trained / "checkpoints", hostile / "checkpoints")
    poison(hostile, HOSTILE)
    poison(tmp_path / "harmless", HARMLESS)
    seen, sent = {}, {}
    for folder in ("harmless", "hostile"):
        terminal = PtyTerminal([*FINETUI, "open", "checkpoints/real", "--images", "blocks"], tmp_path / folder)
        try:
            seen[folder] = visit(terminal)
            assert terminal.restored()
            sent[folder] = bytes(terminal.raw)
        finally:
            terminal.close()
    assert seen["hostile"] == seen["harmless"]
    assert kinds(sent["hostile"]) - kinds(sent["harmless"]) == set()
    told = _CONTROL.sub("", sent["hostile"].decode())
    assert obeyed(told) == []


_COMMANDS = (
    ("log", "real"),
    ("log", "real", "--engine"),
    ("log", "real", "--json"),
    ("runs",),
    ("errors", "--from", "real", "--images", "none", "--confusion"),
    ("errors", "--from", "real", "--images", "none", "--json"),
    ("evaluate", "--from", "real"),
    ("summary", "--from", "real"),
)


@pytest.mark.parametrize("command", _COMMANDS, ids=" ".join)
def test_no_command_prints_what_a_terminal_obeys(
    command: tuple[str, ...],
    trained: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """Row 23: names, lines and fields are harmless on standard output and error as well."""
    shutil.copytree(trained / "checkpoints", tmp_path / "checkpoints")
    poison(tmp_path, HOSTILE)
    monkeypatch.chdir(tmp_path)
    capsys.readouterr()
    assert run(command) == 0
    out, err = capsys.readouterr()
    assert len(out) > 500
    assert obeyed((out + err).replace("\n", "")) == []
