"""What a loop tells wrongly is said once, and left out."""

import warnings
from pathlib import Path
from typing import Any

import pytest
import torch
from own_loop import journal_of, watched_in

from finetui.engine.protocol import events
from finetui.engine.runs.folder import RunFolder
from finetui.engine.watching.loop_meter import LoopMeter


def test_what_is_given_wrongly_is_said_once_and_left_out(tmp_path: Path) -> None:
    with watched_in(tmp_path)() as run:
        for _ in run.steps(range(3)):
            with warnings.catch_warnings(record=True) as said:
                warnings.simplefilter("always")
                run.log(loss=torch.ones(3))
                run.predictions(torch.ones(3, 4), [0, 1])
            if _ == 0:
                assert [str(one.message) for one in said] == [
                    "run.log(loss=...) takes one number, and was given a tensor of (3,)",
                    "there are 3 predictions, and labels of the shape (2,)",
                ]
                assert {one.filename for one in said} == {__file__}
            else:
                assert not said
        assert run.active


def test_warnings_that_are_errors_raise_nothing(tmp_path: Path) -> None:
    with warnings.catch_warnings(), watched_in(tmp_path)() as run:
        warnings.simplefilter("error")
        run.log(loss=torch.ones(3), accuracy=0.5)
        assert run.active
    messages = [event.message for event in journal_of(RunFolder(tmp_path / "own")) if isinstance(event, events.Log)]
    assert messages == ["run.log(loss=...) takes one number, and was given a tensor of (3,)"]


@pytest.mark.parametrize("classes", [range(4), [0, 1, 2, 3], torch.arange(4).numpy()])
def test_names_of_classes_need_not_be_text(tmp_path: Path, classes: Any) -> None:
    with watched_in(tmp_path, classes=classes)() as run:
        run.predictions(torch.eye(4), [0, 1, 2, 3])
    prepared = next(e for e in journal_of(RunFolder(tmp_path / "own")) if isinstance(e, events.RunPrepared))
    assert prepared.data.classes == ("0", "1", "2", "3")


@pytest.mark.parametrize(
    ("tell", "problem"),
    [
        (lambda run: run.evaluated(0.5, part="valid"), "part must be one of 'train', 'val', 'test', not 'valid'"),
        (lambda run: run.predictions(torch.eye(4), [0, 1, 2, 3], part="valid"), "part must be one of"),
        (lambda run: run.evaluated(0.5, n="many"), "n must be a whole number, and is a str"),
        (lambda run: run.epoch(None), "epoch must be a whole number"),
    ],
)
def test_a_part_or_number_that_there_is_not(tmp_path: Path, tell: Any, problem: str) -> None:
    with watched_in(tmp_path)() as run:
        with pytest.warns(RuntimeWarning, match=problem):
            tell(run)
        assert run.active


def test_a_metric_that_is_no_number_is_left_out(tmp_path: Path) -> None:
    with watched_in(tmp_path)() as run:
        for _ in range(2):
            run.evaluated(0.5, matrix=[[1, 2]], name="text", nothing=None, f1=0.25)
        assert run.active
    told = journal_of(RunFolder(tmp_path / "own"))
    assert [dict(e.others) for e in told if isinstance(e, events.Evaluated)] == [{"f1": 0.25}] * 2
    assert [event.message for event in told if isinstance(event, events.Log)] == [
        "the metric matrix is left out: it is not a number, but a list",
        "the metric name is left out: it is not a number, but a str",
    ]


def test_numbers_of_a_loop_that_tells_of_no_steps_do_not_pile_up(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("finetui.engine.watching.loop_meter._MOST_LOGGED", 3)
    meter = LoopMeter()
    for number in range(5):
        meter.log({"loss": number})
    assert meter.take()[1] == {"loss": [0.0, 1.0, 2.0]}
