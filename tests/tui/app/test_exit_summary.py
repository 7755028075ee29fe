"""What is said when the dashboard is left."""

from pathlib import Path

import pytest
from canned import evaluated

from finetui.engine.protocol.config import RunConfig, RunSection
from finetui.tui.app.exit_summary import outlook, summary
from finetui.tui.state.view import View

HERE = str(Path("checkpoints/a-run").absolute())


def view(state: str, path: str = HERE, **changes: object) -> View:
    return View(name="a-run", path=path, state=state, step=1234, **changes)


def test_a_run_that_goes_on() -> None:
    assert list(summary(view("running"), outlives=True)) == [
        "a-run: running at step 1,234, continues without the dashboard",
        "  reattach:  finetui attach a-run",
        "  stop it:   finetui stop a-run",
    ]


def test_a_paused_run_says_how_long_it_waits() -> None:
    config = RunConfig(run=RunSection(linger_minutes=2.5))
    first, *_ = summary(view("paused", config=config), outlives=True)
    future = "will be saved and stopped unless a dashboard reattaches within 2.5 minutes"
    assert first == f"a-run: paused at step 1,234, {future}"


@pytest.mark.parametrize("state", ["finished", "stopped", "failed", "crashed"])
def test_a_run_that_has_ended(state: str) -> None:
    ended = view(state, best_accuracy=0.975, evaluation=evaluated(2, 0.97))
    lines = list(summary(ended, outlives=True))
    last = "test accuracy 97.00% (95% CI 95.75 to 97.89%, n = 1,000)"
    assert lines[:2] == [
        f"a-run: {state} at step 1,234, {last}, best 97.50% chosen on test",
        "  reopen:  finetui open a-run",
    ]
    assert lines[2:] == ([] if state == "finished" else ["  resume:  finetui resume a-run"])


def test_a_run_elsewhere_is_named_by_its_folder() -> None:
    assert "finetui attach '/tmp/my runs/a-run'" in outlook(
        view("running", "/tmp/my runs/a-run"), outlives=True, ended=False
    )


@pytest.mark.parametrize("state", ["preparing", "ready"])
def test_nothing_is_said_of_a_run_that_has_not_begun(state: str) -> None:
    assert list(summary(view(state, ""), outlives=True)) == []
    assert outlook(view(state, ""), outlives=True, ended=False) == ""


@pytest.mark.parametrize(
    ("state", "outlives", "ended", "says"),
    [
        ("running", True, False, "a-run continues without the dashboard: finetui attach a-run"),
        ("running", False, True, "a-run is stopped: finetui resume a-run"),
        ("running", False, False, "a-run could not be saved in time: finetui resume a-run"),
        ("stopped", False, True, "a-run is stopped: finetui resume a-run"),
        ("finished", True, True, "a-run is finished: finetui open a-run"),
    ],
)
def test_the_outlook_in_one_phrase(state: str, outlives: bool, ended: bool, says: str) -> None:
    assert outlook(view(state), outlives=outlives, ended=ended) == says
