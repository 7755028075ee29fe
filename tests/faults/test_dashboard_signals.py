"""What ends, stops or breaks the dashboard: the terminal is in order afterwards, and training goes on."""

import os
import shutil
import signal
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest
from command_line import FINETUI
from live_run import ENDLESS, LiveRun
from pty_terminal import PtyTerminal
from watching import until

from finetui.tui.terminal.log_file import log_path

FAULTY = (sys.executable, str(Path(__file__).parents[1] / "support" / "faulty_dashboard.py"))
TOP_LEFT = b"\x1b[1;1H"  # where drawing the whole screen begins
RETURN = "finetui attach live"


@pytest.fixture
def live(tmp_path: Path) -> LiveRun:
    return LiveRun(tmp_path)


@pytest.fixture
def open_faulty(open_terminal, tmp_path: Path) -> Callable[[str], PtyTerminal]:
    """Return what opens a dashboard over a run that trains, in which a fault happens when it is told to."""

    def make(fault: str) -> PtyTerminal:
        terminal = open_terminal(fault, *ENDLESS, program=FAULTY)
        terminal.until("running", "img/s")
        return terminal

    return make


def let_it_happen(terminal: PtyTerminal, tmp_path: Path) -> None:
    (tmp_path / "now").touch()
    terminal.until_true((tmp_path / "done").exists, "the fault did not happen")


# -- SIGTERM ------------------------------------------------------------------------------------------------


def test_sigterm_leaves_the_terminal_in_order_and_the_engine_at_work(open_terminal, live: LiveRun) -> None:
    """Row 1: exit status 143 within 5 s, the terminal as it was, and training goes on."""
    terminal = open_terminal(*ENDLESS)
    terminal.until("running", "img/s")
    terminal.signal(signal.SIGTERM)
    assert terminal.until_exit() == 143
    assert terminal.restored()
    assert terminal.left().strip().splitlines() == [
        f"finetui: terminated; live continues without the dashboard: {RETURN}"
    ]
    assert live.goes_on()


def test_sigterm_while_the_event_loop_is_stuck(open_faulty, live: LiveRun, tmp_path: Path) -> None:
    """Row 1: also when the event loop will never run again."""
    terminal = open_faulty("blocked")
    (tmp_path / "now").touch()
    terminal.until_true(lambda: not terminal.read(1), "the dashboard still draws")
    terminal.signal(signal.SIGTERM)
    assert terminal.until_exit() == 143
    assert terminal.restored()
    assert RETURN in terminal.left()
    assert live.goes_on()


def test_sigterm_while_the_terminal_takes_nothing(open_terminal, live: LiveRun) -> None:
    """Row 1: also when nothing more fits into the terminal; what restores it is there once it is read again."""
    terminal = open_terminal(*ENDLESS)
    terminal.until("running", "img/s")
    for number in range(400):  # far more than a pseudo-terminal keeps
        terminal.resize(100 + number % 2, 30)
        time.sleep(0.01)
    terminal.signal(signal.SIGTERM)
    assert terminal.until_exit(drain=False) == 143
    terminal.read_all()
    assert terminal.restored()
    assert RETURN in terminal.left()
    assert live.goes_on()


def test_sigterm_saves_a_run_that_ends_with_the_dashboard(open_faulty, live: LiveRun) -> None:
    """Row 1: an engine in the dashboard's own process has saved."""
    terminal = open_faulty("local-none")
    terminal.signal(signal.SIGTERM)
    assert terminal.until_exit() == 143
    assert terminal.restored()
    assert "live is stopped: finetui resume live" in terminal.left()
    assert live.folder.last.is_file()
    assert live.states()[-1] == "stopped"


@pytest.fixture
def open_stuck(open_terminal, tmp_path: Path) -> Callable[[float], PtyTerminal]:
    """Return what opens a dashboard over an engine of its own process that takes so many seconds over a step."""

    def make(seconds: float) -> PtyTerminal:
        (tmp_path / "stuck.py").write_text(
            "import pathlib, time, torch\n"
            "class Stuck(torch.nn.Module):\n"
            "    def __init__(self):\n        super().__init__()\n        self.fc = torch.nn.Linear(784, 10)\n"
            "    def forward(self, x):\n        if pathlib.Path('now').exists():\n"
            f"            pathlib.Path('done').touch()\n            time.sleep({seconds})\n"
            "        return self.fc(x.flatten(1))\n"
            "def make(num_classes):\n    return Stuck()\n"
        )
        terminal = open_terminal("local-none", *ENDLESS, "--model", "stuck.py:make", program=FAULTY)
        terminal.until("running")
        let_it_happen(terminal, tmp_path)
        return terminal

    return make


def test_a_sigterm_that_comes_twice_waits_for_the_save(open_stuck, live: LiveRun) -> None:
    """Row 1: `timeout` signals its child and then its group, and means it once."""
    terminal = open_stuck(1.0)
    terminal.signal(signal.SIGTERM)
    terminal.signal(signal.SIGINT)  # two of one kind could be heard as one
    assert terminal.until_exit() in (143, 130)
    assert live.states()[-1] == "stopped"


def test_a_second_sigterm_does_not_wait_for_the_save(open_stuck) -> None:
    """Row 1: a second signal ends the dashboard at once, here beside an engine that is stuck in a step."""
    terminal = open_stuck(60.0)
    terminal.signal(signal.SIGTERM)
    terminal.until_true(terminal.restored, "the terminal was not given back")
    end = time.monotonic() + 45  # tests let a dashboard wait for 60 s
    while terminal.status is None and time.monotonic() < end:
        terminal.signal(signal.SIGTERM)
        try:
            terminal.until_exit(0.3)
        except AssertionError:
            continue
    assert terminal.status == 143


# -- SIGHUP, and terminals that close -----------------------------------------------------------------------


def test_sighup_leaves(open_terminal, live: LiveRun) -> None:
    """Row 2: gone with 129 within 2 s; the terminal, which is still there, is as it was; no step is lost."""
    terminal = open_terminal(*ENDLESS)
    terminal.until("running", "img/s")
    terminal.signal(signal.SIGHUP)
    assert terminal.until_exit() == 129
    assert terminal.restored()
    assert RETURN in terminal.left()
    assert live.goes_on()


def test_a_finished_run_whose_dashboard_hung_up_is_kept_for_whoever_comes_back(open_terminal, live: LiveRun) -> None:
    """Row 2: a connection that broke is no goodbye."""
    terminal = open_terminal(*("1" if argument == "100000" else argument for argument in ENDLESS))
    terminal.until("finished", "m Errors")
    terminal.signal(signal.SIGHUP)
    assert terminal.until_exit() == 129
    time.sleep(1.5)  # it would leave at once
    assert live.lives()
    back = open_terminal("attach", "live")
    back.until("finished", "conv1")
    back.type("q")
    assert back.until_exit() == 0
    until(lambda: not live.lives())


def test_a_terminal_that_closes(open_terminal, live: LiveRun) -> None:
    """Row 2: gone with 129 within 2 s; no step is lost."""
    terminal = open_terminal(*ENDLESS)
    terminal.until("running", "img/s")
    terminal.hang_up()
    assert terminal.until_exit(drain=False) == 129
    assert live.goes_on()


@pytest.mark.parametrize("state", ["running", "paused"])
def test_a_terminal_that_closes_without_a_signal(open_faulty, live: LiveRun, tmp_path: Path, state: str) -> None:
    """Row 2: a dashboard that is not told notices by itself, within 2 s too, also when it has nothing to write."""
    terminal = open_faulty("deaf")
    let_it_happen(terminal, tmp_path)
    if state == "paused":
        terminal.type(" ")
        terminal.until("paused")
        terminal.read_all(quiet=1.5)
    terminal.hang_up()
    assert terminal.until_exit(drain=False) == 129
    assert live.lives()
    assert state == "paused" or live.goes_on()


# -- SIGCONT, SIGTSTP ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("times", [1, 3])
def test_sigcont_without_a_stop(open_terminal, live: LiveRun, times: int) -> None:
    """Row 4: the same threads afterwards, and a terminal that SIGTERM leaves in order."""
    terminal = open_terminal(*ENDLESS)
    terminal.until("running", "img/s", "best ")
    terminal.read_all()
    threads = terminal.threads()
    for _ in range(times):
        before = len(terminal.raw)
        terminal.signal(signal.SIGCONT)
        terminal.until_true(lambda before=before: TOP_LEFT in terminal.raw[before:], "it was not drawn anew")
    assert terminal.threads() == threads
    terminal.signal(signal.SIGCONT)
    terminal.signal(signal.SIGTERM)
    assert terminal.until_exit() == 143
    assert terminal.restored()
    assert live.goes_on()


@pytest.fixture
def shell(open_terminal, tmp_path: Path) -> PtyTerminal:
    """Return a shell with job control, in which a run trains."""
    if shutil.which("bash") is None:
        pytest.skip("needs bash, for job control")
    (tmp_path / "inputrc").write_text("set enable-bracketed-paste off\n")
    bash = ("env", "PS1=prompt> ", f"INPUTRC={tmp_path / 'inputrc'}", "bash")
    terminal = open_terminal("--norc", "--noprofile", "-i", program=bash)
    terminal.until("prompt>")
    terminal.type(" ".join((*FINETUI, *ENDLESS)) + "\n")
    terminal.until("running", "img/s")
    return terminal


def test_ctrl_z_and_fg(shell: PtyTerminal, live: LiveRun) -> None:
    """Row 5: the shell is usable meanwhile, training goes on, and the screen comes back as it was."""
    for columns, rows in ((80, 24), (100, 30)):
        shell.type("\x1a")
        shell.until("Stopped", "prompt>")
        assert shell.restored_modes()
        shell.screen.reset()  # this emulator has no alternate screen to leave
        shell.type("echo a$((1+1))z $(stty -a | grep -c ' echo ')\n")
        shell.until("a2z 1")
        assert live.goes_on()
        shell.resize(columns, rows)
        shell.screen.reset()
        shell.type("fg\n")
        shell.until("running", "img/s", "conv1", "Errors", "^p")
        assert "prompt>" not in shell.text()
        assert max(map(len, shell.text().splitlines())) > columns - 5
    shell.type("q")
    shell.until("prompt>", RETURN)
    shell.type("echo status $?\n")
    shell.until("status 0")
    assert live.goes_on()


def test_a_stopped_dashboard_stays_stopped_in_the_background(shell: PtyTerminal, live: LiveRun) -> None:
    """Row 5: continued where another job has the terminal, it leaves that alone; SIGTERM ends it there as well."""
    shell.type("\x1a")
    shell.until("Stopped", "prompt>")
    shell.raw.clear()
    shell.type("bg; until jobs | grep -q 'Sto[p]ped'; do sleep 0.1; done; jobs\n")
    shell.until_true(lambda: shell.text().count("Stopped") >= 2, "it was not stopped again")
    shell.type("p=$(jobs -p); kill -TERM %1; while kill -0 $p 2>&-; do sleep 0.1; done; echo\n")
    shell.until("Exit 143")
    assert b"\x1b[?1049" not in shell.raw
    assert live.goes_on()


def test_what_is_typed_for_the_shell_does_not_stop_a_dashboard_in_the_background(
    shell: PtyTerminal, live: LiveRun
) -> None:
    """Row 5: to read what is another job's would stop it again, and again at each attempt to end it."""
    shell.type("\x1a")
    shell.until("Stopped", "prompt>")
    shell.type("bg; sleep 1; jobs\n")
    shell.type("p=$(jobs -p); kill -TERM %1; while kill -0 $p 2>&-; do sleep 0.1; done; echo\n")
    shell.until("Exit 143")
    assert live.goes_on()


def test_sigstop_and_sigcont(open_terminal, live: LiveRun) -> None:
    """Row 5: what happened to the terminal while the dashboard was stopped from outside is put right."""
    terminal = open_terminal(*ENDLESS)
    terminal.until("running", "img/s", "conv1")
    terminal.signal(signal.SIGSTOP)
    terminal.read_all()
    terminal.screen.reset()
    terminal.signal(signal.SIGCONT)
    terminal.until("running", "img/s", "conv1", "m Errors")
    assert live.goes_on()


# -- keys and mistakes --------------------------------------------------------------------------------------


@pytest.mark.slow
@pytest.mark.parametrize("rounds", [2, pytest.param(20, marks=pytest.mark.slow)])
def test_quitting_while_training(open_terminal, live: LiveRun, rounds: int) -> None:
    """Row 7: `q` exits within 1 s, every time, and nothing is asked."""
    for number in range(rounds):
        arguments = [f"live-{number}" if word == "live" else word for word in ENDLESS]
        terminal = open_terminal(*arguments)
        terminal.until("running", "img/s")
        terminal.type("q" if number % 2 else "d")
        assert terminal.until_exit() == 0
        assert terminal.restored()
        os.kill(engine_of(live.folder.path.with_name(f"live-{number}")), signal.SIGKILL)


def test_quitting_while_a_worker_is_busy(open_faulty, live: LiveRun, tmp_path: Path) -> None:
    """Row 7: also while a thread of the dashboard is in the middle of something that takes for ever."""
    terminal = open_faulty("busy")
    let_it_happen(terminal, tmp_path)
    terminal.type("q")
    assert terminal.until_exit() == 0
    assert terminal.restored()
    assert live.goes_on()


def engine_of(run: Path) -> int:
    """Return the process id of the engine that has a run."""
    import json

    return int(json.loads((run / "engine.lock").read_text())["pid"])


@pytest.mark.parametrize("fault", ["timer", "handler", "worker"])
def test_an_exception_in_the_dashboard(open_faulty, live: LiveRun, fault: str) -> None:
    """Row 8: the terminal as it was, one sentence on it, the rest in the log; training goes on."""
    terminal = open_faulty(fault)
    Path(live.folder.path.parent.parent, "now").touch()
    assert terminal.until_exit() == 1
    assert terminal.restored()
    (sentence,) = terminal.left().strip().splitlines()
    assert sentence == (
        "finetui: the dashboard failed (RuntimeError: a fault [/red] �[2J for a test); live continues without the "
        f"dashboard: {RETURN}; details are in {log_path()}"
    )
    assert b"Traceback" not in terminal.raw
    assert b"\x1b[2J for a test" not in terminal.raw
    log = log_path().read_text()
    assert "Traceback" in log
    assert "in fail" in log
    assert live.goes_on()


def test_an_exception_in_the_dashboard_saves_a_run_that_ends_with_it(open_faulty, live: LiveRun) -> None:
    """Row 8: an engine in the dashboard's own process saves, and that is said."""
    terminal = open_faulty("local-timer")
    Path(live.folder.path.parent.parent, "now").touch()
    assert terminal.until_exit() == 1
    assert terminal.restored()
    (sentence,) = terminal.left().strip().splitlines()
    assert "RuntimeError" in sentence
    assert "live is stopped: finetui resume live" in sentence
    assert live.folder.last.is_file()
    assert live.states()[-1] == "stopped"
