"""`finetui log`: the journal and the engine's output on standard output."""

import json
import os
import signal
import subprocess
import time
from contextlib import ExitStack
from pathlib import Path

import msgspec
import pytest
from canned import LAYERS, evaluated, point, running
from command_line import FINETUI

from finetui.engine.protocol.commands import NoteTest, RollBack, SetLearningRate
from finetui.engine.protocol.events import AnyEvent, CommandAccepted, Log, Rewound, StateChanged
from finetui.engine.runs.folder import RunFolder
from finetui.engine.runs.journal import encode_line
from finetui.engine.runs.lock import RunLock

_NOON = time.mktime((2026, 3, 1, 12, 0, 0, 0, 0, -1))  # local


def write_run(tmp_path: Path, *events: AnyEvent, name: str = "a-run") -> Path:
    """Write a journal of `events` and return the run's folder."""
    folder = tmp_path / "checkpoints" / name
    folder.mkdir(parents=True)
    numbered = (msgspec.structs.replace(e, seq=seq, time=_NOON + seq) for seq, e in enumerate(events))
    (folder / "journal.jsonl").write_bytes(b"".join(map(encode_line, numbered)))
    return folder


def rolled_back() -> list[AnyEvent]:
    """Return a run that went back: its events 6 and 7 are undone."""
    return running(
        point(90),
        evaluated(1, 0.9),
        CommandAccepted(command=SetLearningRate(value=0.5, by="ada@here pts/1"), step=110),
        Log(level="error", message="the loss is high", step=120),
        Rewound(cause="rollback", file="best.ckpt", at=6, epoch=1, undone=20, learning_rate=1, layers=LAYERS, step=100),
        CommandAccepted(command=RollBack(checkpoint="best", by="ada@here pts/1"), step=100),
        StateChanged(state="finished", step=200),
    )


def test_a_line_says_when_after_how_many_steps_what_and_who(in_process, tmp_path: Path) -> None:
    write_run(tmp_path, *rolled_back())
    result = in_process("log", "a-run", cwd=tmp_path)
    assert (result.returncode, result.stderr) == (0, "")
    assert result.stdout.splitlines() == [
        "2026-03-01 12:00:00          0   mnist: 6,400 training and 1,000 test images from /data",
        "2026-03-01 12:00:01          0   ready",
        f"2026-03-01 12:00:02          0   run a-run in {tmp_path}/checkpoints/a-run",
        "2026-03-01 12:00:03          0   running from step 0",
        "2026-03-01 12:00:05        100   epoch 1: test loss 0.1000, accuracy 90.00%, the best so far (chosen on test)",
        "2026-03-01 12:00:06        110   undone: learning rate 0.5 at step 110 (by ada@here pts/1)",
        "2026-03-01 12:00:07        120 ✗ undone: the loss is high",
        '2026-03-01 12:00:08        100 ↶ rolled back to "best" (step 100); 20 steps undone (by ada@here pts/1)',
        "2026-03-01 12:00:10        200   finished at step 200",
    ]


def test_a_return_to_a_checkpoint_undoes_no_look_at_the_test_images_and_no_start(in_process, tmp_path: Path) -> None:
    look = NoteTest(use="evaluate", n=1000, accuracy=0.9, checkpoint="best.ckpt")
    events = running(
        point(90),
        CommandAccepted(command=SetLearningRate(value=0.5), step=110),
        CommandAccepted(command=look, step=110),
        StateChanged(state="preparing", step=110),
        Rewound(cause="resume", file="last.ckpt", at=4, epoch=1, undone=10, learning_rate=1, layers=LAYERS, step=100),
    )
    write_run(tmp_path, *events)
    undone = [" undone: " in line for line in in_process("log", "a-run", cwd=tmp_path).stdout.splitlines()[4:]]
    assert undone == [True, False, False, False]


def test_json_is_the_journals_own_lines(in_process, tmp_path: Path) -> None:
    folder = write_run(tmp_path, *rolled_back())
    result = in_process("log", "a-run", "--json", cwd=tmp_path)
    assert result.stdout.encode() == (folder / "journal.jsonl").read_bytes()


def test_json_from_anywhere_holds_nothing_that_a_terminal_obeys(in_process, tmp_path: Path) -> None:
    folder = write_run(tmp_path)
    message = "a\x9b31mb\u202ec\x7fd\x1b]52;c;eA==\x07"
    hostile = json.dumps({"type": "log", "level": "info", "message": message}, ensure_ascii=False)
    lines = [hostile.encode(), b'{"a": "\x1b[2J"}', b"\x1b[2J", b"[" * 100_000, b'{"type": "torn']
    (folder / "journal.jsonl").write_bytes(b"\n".join(lines))
    result = in_process("log", "a-run", "--json", cwd=tmp_path)
    (line,) = result.stdout.splitlines()
    assert json.loads(line)["message"] == message
    assert line.isascii() and line.isprintable()
    assert "3 damaged lines were skipped" in result.stderr


def test_damaged_lines_are_skipped_and_said(in_process, tmp_path: Path) -> None:
    folder = write_run(tmp_path, *rolled_back())
    with (folder / "journal.jsonl").open("ab") as file:
        file.write(b"no event\n" + b'{"type":"log","level":"info","message":' + b"[" * 100_000 + b"\n")
    result = in_process("log", "a-run", cwd=tmp_path)
    assert len(result.stdout.splitlines()) == 9
    assert result.stderr == "finetui: 2 damaged and 0 unknown lines were skipped\n"


def test_a_time_that_is_none_is_no_reason_to_fail(in_process, tmp_path: Path) -> None:
    folder = write_run(tmp_path)
    event = Log(level="info", message="in the far future", time=1e300, seq=0)
    (folder / "journal.jsonl").write_bytes(encode_line(event))
    result = in_process("log", "a-run", cwd=tmp_path)
    assert result.stdout.endswith("in the far future\n")


def test_the_engines_output_is_cleaned_line_by_line(in_process, tmp_path: Path) -> None:
    folder = write_run(tmp_path)
    printed = "\x1b[1mbold\x1b[0m\r\n\ttab \x1b]0;title\x07\x07\x1bPdcs\x1b\\\nfetch 10%\rfetch 99%\nunfini\xffshed"
    (folder / "engine.log").write_bytes(printed.encode("latin-1"))
    result = in_process("log", "a-run", "--engine", cwd=tmp_path)
    assert result.stdout == "bold\n        tab �Pdcs�\\\nfetch 10%\nfetch 99%\nunfini�shed\n".replace("tab �", "tab ��")


def test_of_a_long_output_the_newest_lines_are_printed(in_process, tmp_path: Path) -> None:
    folder = write_run(tmp_path)
    (folder / "engine.log").write_text("".join(f"line {number}\n" for number in range(6000)))
    result = in_process("log", "a-run", "--engine", cwd=tmp_path)
    lines = result.stdout.splitlines()
    assert (len(lines), lines[0], lines[-1]) == (5000, "line 1000", "line 5999")


def test_of_a_huge_output_only_the_end_is_read(in_process, tmp_path: Path) -> None:
    folder = write_run(tmp_path)
    with (folder / "engine.log").open("wb") as file:
        file.truncate(2**40)  # a file of a terabyte, with holes
        file.seek(0, os.SEEK_END)
        file.write(b"\nthe end\n")
    result = in_process("log", "a-run", "--engine", cwd=tmp_path)
    assert result.stdout == "the end\n"


def test_without_an_output_it_is_said_where_that_went(in_process, tmp_path: Path) -> None:
    write_run(tmp_path, *rolled_back())
    result = in_process("log", "a-run", "--engine", cwd=tmp_path)
    assert result.returncode == 2
    assert "engine.log: the engine printed to its own terminal" in result.stderr


def test_a_run_that_is_not_there_is_bad_input(in_process, tmp_path: Path) -> None:
    write_run(tmp_path, *rolled_back())
    assert in_process("log", "another", cwd=tmp_path).returncode == 2
    assert in_process("log", "a-run", "--engine", "--json", cwd=tmp_path).returncode == 2


def test_a_terminal_without_the_signs_gets_plain_ones(tmp_path: Path) -> None:
    write_run(tmp_path, *rolled_back())
    environment = os.environ | {"PYTHONIOENCODING": "ascii"}
    result = subprocess.run(
        [*FINETUI, "log", "a-run"], cwd=tmp_path, env=environment, capture_output=True, timeout=60, check=True
    )
    assert b' < rolled back to "best" (step 100)' in result.stdout


# -- following ----------------------------------------------------------------------------------------------


class _Following:
    """`finetui log --follow` in a process of its own."""

    def __init__(self, cwd: Path, *arguments: str) -> None:
        command = [*FINETUI, "log", "a-run", "--follow", *arguments]
        environment = {name: value for name, value in os.environ.items() if name != "PYTHONUNBUFFERED"}
        self.process = subprocess.Popen(
            command, cwd=cwd, env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE
        )
        assert self.process.stdout is not None
        self._lines = self.process.stdout

    def line(self) -> str:
        return self._lines.readline().decode().rstrip("\n")


@pytest.fixture
def live(tmp_path: Path):
    """Yield the folder of a run that looks alive, because this process has its lock, and what ends that."""
    folder = write_run(tmp_path, *rolled_back())
    (folder / "engine.log").write_text("printed first\n")
    with ExitStack() as engine:
        engine.callback(RunLock(RunFolder(folder)).release)
        yield folder, engine.close


def append(folder: Path, *events: AnyEvent) -> None:
    with (folder / "journal.jsonl").open("ab", buffering=0) as file:
        for event in events:
            file.write(encode_line(event))


@pytest.mark.parametrize("form", [(), ("--json",), ("--engine",)])
def test_following_goes_on_until_the_engine_is_gone(live, tmp_path: Path, form: tuple[str, ...]) -> None:
    folder, end = live
    following = _Following(tmp_path, *form)
    try:
        while "finished" not in (line := following.line()) and line != "printed first":
            assert following.process.poll() is None
        append(folder, Log(level="info", message="while it lived", seq=11))
        with (folder / "engine.log").open("a") as file:
            file.write("while it lived\n")
        assert "while it lived" in following.line()
        assert following.process.poll() is None
        append(folder, Log(level="info", message="its last word", seq=12))
        with (folder / "engine.log").open("a") as file:
            file.write("its last word")
        end()
        assert "its last word" in following.line()
        assert following.process.wait(30) == 0
        assert following.line() == ""
    finally:
        following.process.kill()
        following.process.communicate()


def test_ctrl_c_ends_following(live, tmp_path: Path) -> None:
    following = _Following(tmp_path)
    try:
        while "finished" not in following.line():
            assert following.process.poll() is None
        following.process.send_signal(signal.SIGINT)
        assert following.process.wait(30) == 130
        assert following.process.communicate()[1] == b""
    finally:
        following.process.kill()
        following.process.communicate()
