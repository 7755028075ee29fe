"""`finetui watch` on the command line."""

import json
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest
from event_files import losses

from finetui.engine.protocol.events import AnyEvent
from finetui.engine.sources.run_events import RunEvents
from finetui.tui.cli.main import run

FIXTURES = Path(__file__).parents[2] / "fixtures" / "watched"


def test_a_table_of_all_runs(capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["watch", str(FIXTURES), "--once"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[0].split()[:2] == ["NAME", "STATE"]
    assert {line.split()[0] for line in lines[1:]} == {"pytorch", "lightning_tb", "lightning_csv"}


def test_the_events_of_one_run_as_json(capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["watch", str(FIXTURES / "lightning_csv"), "--json", "--once"]) == 0
    events = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert [event["type"] for event in events[:3]] == ["run_prepared", "run_started", "state_changed"]
    points = [event for event in events if event["type"] == "train_point"]
    assert len(points) == 12
    assert points[0]["accuracy"] is None  # and not 0
    assert [event["seq"] for event in events] == list(range(len(events)))


def test_the_summaries_of_several_as_json(capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["watch", str(FIXTURES), "--json", "--once"]) == 0
    assert {one["name"] for one in json.loads(capsys.readouterr().out)} == {"pytorch", "lightning_tb", "lightning_csv"}


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("absent", "there is no file or folder"),
        ("notes.txt", "is not a file that can be watched"),
        ("", "no runs yet"),
    ],
)
def test_what_cannot_be_watched(name: str, words: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "notes.txt").write_text("hello")
    (tmp_path / "events.txt").mkdir()
    place = tmp_path / (name or "events.txt")
    assert run(["watch", str(place), "--once"]) == 2
    said = capsys.readouterr()
    assert words in said.err and not said.out


def test_json_follows_one_run(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["watch", str(FIXTURES), "--json"]) == 2
    assert "--json follows one run, and there are 3" in capsys.readouterr().err


def test_without_a_path(capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["watch"]) == 2
    assert "name a file or folder" in capsys.readouterr().err


def test_a_finished_file_alone(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file = tmp_path / "events.out.tfevents.1.h"
    file.write_bytes(losses(range(3)))
    assert run(["watch", str(file), "--json", "--once"]) == 0
    events = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert [event["type"] for event in events].count("train_point") == 3
    (begun,) = [event for event in events if event["type"] == "run_prepared"]
    assert not {"config", "parameters", "steps_per_epoch", "parent"} & begun.keys()  # nobody has told them
    assert not {"train_size", "channels", "classes"} & begun["data"].keys()
    assert all(event.get("accuracy") is None for event in events)


@pytest.fixture
def failing(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    """A file whose source fails, after it has told of a few steps, with what the list that it gives says."""
    from finetui.engine.sources.table import JsonLinesRun

    file = tmp_path / "log.jsonl"
    file.write_text('{"step": 1, "loss": 0.5}\n{"step": 2, "loss": 0.4}\n')
    read = JsonLinesRun.read

    def failing(self: JsonLinesRun) -> object:
        yield from read(self)
        raise ValueError("no number")

    monkeypatch.setattr(JsonLinesRun, "read", failing)
    return file


def test_json_of_a_damaged_source_is_a_sentence_after_what_was_read(
    failing: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(["watch", str(failing), "--json", "--once"]) == 2
    said = capsys.readouterr()
    assert [json.loads(line).get("loss") for line in said.out.splitlines()][-2:] == [0.5, 0.4]
    assert said.err.count("\n") == 1
    assert f"something in {failing} cannot be parsed: ValueError: no number" in said.err


def test_json_says_once_what_is_wrong_and_follows_on(
    failing: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    looks = iter([0.3, 0.2])

    def sleep(_seconds: float) -> None:
        loss = next(looks, None)
        if loss is None:
            raise KeyboardInterrupt
        with failing.open("a") as file:
            file.write(json.dumps({"step": 3, "loss": loss}) + "\n")

    monkeypatch.setattr("finetui.tui.cli.watch.time.sleep", sleep)
    run(["watch", str(failing), "--json"])
    said = capsys.readouterr()
    losses = [event["loss"] for event in map(json.loads, said.out.splitlines()) if event["type"] == "train_point"]
    assert losses == [0.5, 0.4, 0.3, 0.2]
    assert said.err.count("cannot be parsed") == 1


def test_runs_in_folders_of_folders(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """The name of a run with a slash in it can be none of a folder of finetui's."""
    for name in ("lightning_logs/version_0", "lightning_logs/version_1"):
        shutil.copytree(FIXTURES / "lightning_csv", tmp_path / name)
    assert run(["watch", str(tmp_path), "--once"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert [line.split()[0] for line in lines[1:]] == ["lightning_logs/version_0", "lightning_logs/version_1"]
    (tmp_path / "lightning_logs/version_1/metrics.csv").unlink()
    assert run(["watch", str(tmp_path), "--json", "--once"]) == 0
    events = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert [event["type"] for event in events[:2]] == ["run_prepared", "run_started"]
    assert events[1]["name"] == "lightning_logs/version_0"


def test_a_run_that_cannot_be_read_is_a_row_with_the_reason(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def read(_self: RunEvents) -> Iterator[AnyEvent]:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(RunEvents, "read", read)
    assert run(["watch", str(FIXTURES), "--once", "--json"]) == 0
    assert {one["note"] for one in json.loads(capsys.readouterr().out)} == {"it cannot be read: Permission denied"}


def test_runs_of_one_name_in_several_paths_are_told_apart(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    for name in ("a/version_0", "b/version_0", "c"):
        shutil.copytree(FIXTURES / "lightning_csv", tmp_path / name)
    shutil.copy(tmp_path / "c/metrics.csv", tmp_path / "c/more.csv")
    assert run(["watch", "a", "b", "c/metrics.csv", "c/more.csv", "b/version_0", "--once", "--json"]) == 0
    names = [one["name"] for one in json.loads(capsys.readouterr().out)]
    assert sorted(names) == ["a/version_0", "b/version_0", "c/metrics.csv", "c/more.csv"]
    assert run(["watch", "a", "--once", "--json"]) == 0
    begun = json.loads(capsys.readouterr().out.splitlines()[1])
    assert begun["name"] == "version_0"
