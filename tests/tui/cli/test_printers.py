"""What a training without a dashboard says beside its accuracy."""

from pathlib import Path

import pytest
from canned import prepared, running

from finetui.engine.inspection.opened_checkpoint import evaluate_checkpoint
from finetui.engine.protocol.events import AnyEvent, Log, StateChanged
from finetui.engine.session.session import Session
from finetui.tui.cli.printers import LinePrinter


def said(capsys: pytest.CaptureFixture[str], *events: AnyEvent) -> list[str]:
    printer = LinePrinter()
    for event in events:
        printer.show(event)
    return capsys.readouterr().err.splitlines()


def warning(message: str) -> Log:
    return Log(level="warning", message=message)


def test_warnings_are_printed_and_of_skipped_files_the_first(capsys: pytest.CaptureFixture[str]) -> None:
    first, *rest = running()
    files = [warning(f"skipped: {number}.png: truncated image") for number in range(3)]
    lines = said(capsys, first, *files, warning("left behind: fc3.weight"), *rest, *files, warning("the disk is full"))
    assert [line for line in lines if "png" in line or "behind" in line or "disk" in line] == [
        "skipped: 0.png: truncated image; the log lists what else is skipped",
        "the disk is full",
    ]


def test_information_is_for_the_log(capsys: pytest.CaptureFixture[str]) -> None:
    lines = said(capsys, prepared(), Log(level="info", message="a fast path was measured"))
    assert not any("fast path" in line for line in lines)


def test_a_resumed_run_says_that_its_images_changed(make_config, tmp_path: Path, in_process) -> None:
    from PIL import Image

    for label in "ab":
        (tmp_path / "d" / label).mkdir(parents=True)
        for index in range(20):
            Image.new("L", (28, 28), index + 100 * (label == "b")).save(tmp_path / "d" / label / f"{index}.png")
    folder = Session(make_config(data=str(tmp_path / "d"), batch_size=8, name="r")).run().folder
    assert folder is not None
    for index in range(15):
        (tmp_path / "d" / "a" / f"new{index}.png").write_bytes(b"no image")
        Image.new("L", (28, 28), index).save(tmp_path / "d" / "b" / f"new{index}.png")
    result = in_process("extend", str(folder.path), "--epochs", "2", cwd=tmp_path)
    assert "these are not the images that the run saw: 15 images new and not used" in result.stderr
    notices = evaluate_checkpoint(folder.best, device="cpu").notices
    assert sum("new" in notice and ".png" in notice for notice in notices) == 10
    assert notices[-1] == "and 5 more"


@pytest.mark.parametrize("json", [False, True])
def test_why_a_training_failed_is_said_once(in_process, tmp_path: Path, json: bool) -> None:
    arguments = ("train", "--data", "mnist-sample", "--device", "cpu", "--batch-size", "100000", *["--json"] * json)
    result = in_process(*arguments, cwd=tmp_path)
    assert result.returncode == 2
    said = [line for line in result.stderr.splitlines() if "100000 is more than" in line]
    assert len(said) == 1
    assert said[0].startswith("finetui: ")
    assert ("100000 is more than" in result.stdout) == json


def test_a_failure_that_nobody_else_says_is_said_at_the_end(capsys: pytest.CaptureFixture[str]) -> None:
    printer = LinePrinter()
    printer.show(StateChanged(state="failed", reason="no luck"))
    assert capsys.readouterr().err == ""
    printer.close()
    assert capsys.readouterr().err == "failed: no luck\n"
    printer.close()
    assert capsys.readouterr().err == ""
