"""What all tests share: real data where it is, small configurations, recorded events."""

import gc
import os
import re

# Before torch is imported: tests run beside each other, and two threads each on two cores wait for one another.
os.environ["OMP_NUM_THREADS"] = "1"
os.environ["OMP_WAIT_POLICY"] = "passive"  # those that a test asks for sleep while they wait

import shutil
import signal
import subprocess
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
from fork_server import MARK, SERVER, SHARED, ForkingPopen, ForkServer
from hypothesis import HealthCheck, settings

from finetui.engine.protocol.config import DataConfig, RunConfig, RunSection, TrainingConfig
from finetui.engine.protocol.events import AnyEvent, Event

# A busy machine is no fault of an example's; and a commit passes or fails, whatever the dice say. New examples are
# looked for by `pytest --hypothesis-profile explore`.
settings.register_profile("explore", deadline=None, suppress_health_check=[HealthCheck.too_slow], max_examples=2000)
settings.register_profile("finetui", settings.get_profile("explore"), derandomize=True, max_examples=100)
settings.load_profile("finetui")

# A shell's background job ignores Ctrl-C, and so would every program that a test interrupts.
signal.signal(signal.SIGINT, signal.default_int_handler)

SHARED_DATA = Path(os.environ.get("FINETUI_TEST_DATA", Path(__file__).parents[2] / "shared" / "data"))
TESTS = Path(__file__).parent
MEMORY = Path("/dev/shm")
_seen: set[str] = set()  # the processes that were there before the test began: none of them is its own


@pytest.hookimpl(tryfirst=True)  # before pytest makes out where temporary files are to be
def pytest_configure(config: pytest.Config) -> None:
    """Have the tests' files in memory, where there is room; `--basetemp FOLDER` has them elsewhere, and keeps them.

    Tests write, sync and delete tens of thousands of small files, and on a disk much of their time is waiting for it.
    The folder's name is short because sockets are in there as well.
    """
    asked = config.option.basetemp is not None  # by a person, or of a worker by what has started it
    if not asked and os.access(MEMORY, os.W_OK) and shutil.disk_usage(MEMORY).free > 2 * 2**30:
        folder = MEMORY / f"finetui-{os.getpid()}"
        config.option.basetemp = str(folder)
        config.add_cleanup(lambda: shutil.rmtree(folder, ignore_errors=True))


def pytest_sessionstart(session: pytest.Session) -> None:
    """Have the workers of pytest-xdist, which are started after this, share one process that has imported PyTorch."""
    config = session.config
    if config.getoption("numprocesses", None) and not hasattr(config, "workerinput"):
        server = ForkServer()
        server.start_once_asked()
        os.environ[SHARED] = server.path
        config.add_cleanup(server.close)


def pytest_ignore_collect(collection_path: Path, config: pytest.Config) -> bool | None:
    """Do not import files that are for the peers alone, where those are left out: the peers take seconds to import."""
    left_out = "not peers" in config.option.markexpr and collection_path.suffix == ".py"
    marked = r"^pytestmark = \[?pytest\.mark\.peers\b"
    return True if left_out and re.search(marked, collection_path.read_text("utf-8"), re.MULTILINE) else None


def pytest_collection_finish() -> None:
    """What is imported by now stays: no collection has to look at it again; and of what tests make, none as often."""
    gc.collect()
    gc.freeze()
    gc.set_threshold(10_000, 20, 50)  # a sixth of the time of all tests that open the dashboard


@pytest.fixture
def shared_data() -> Path:
    """The root of the full MNIST and Fashion-MNIST."""
    if not (SHARED_DATA / "MNIST" / "raw").is_dir():
        pytest.skip(f"needs the full MNIST in {SHARED_DATA} (set FINETUI_TEST_DATA)")
    return SHARED_DATA


@pytest.fixture
def make_config(tmp_path: Path) -> Callable[..., RunConfig]:
    """Return a maker of small runs on the bundled digits, kept in a temporary folder."""

    def make(data: str = "mnist-sample", data_dir: Path | None = None, name: str = "", **training: Any) -> RunConfig:
        settings = {"epochs": 1, "batch_size": 100, "lr": 0.01, "device": "cpu"} | training
        settings = {"optimizer": "sgd", "schedule": "constant", "weight_decay": 0.0, "fast": "on"} | settings
        return RunConfig(
            data=DataConfig(name=data, dir=str(data_dir) if data_dir else None),
            training=TrainingConfig(**settings),
            run=RunSection(name=name, runs_dir=str(tmp_path / "runs")),
        )

    return make


class Recorder:
    """A sink that keeps what it hears."""

    def __init__(self) -> None:
        self.events: list[AnyEvent] = []

    def __call__(self, event: AnyEvent) -> None:
        self.events.append(event)

    def of(self, *kinds: type[Event]) -> list[Any]:
        """Return the events of these kinds, in order."""
        return [event for event in self.events if isinstance(event, kinds)]

    def states(self) -> list[str]:
        """Return the states that were gone through."""
        return [event.state for event in self.events if type(event).__name__ == "StateChanged"]


@pytest.fixture
def recorder() -> Recorder:
    return Recorder()


@pytest.fixture
def open_terminal(tmp_path: Path) -> Iterator[Callable[..., Any]]:
    """Return what opens the program with some arguments in a pseudo-terminal, in the temporary folder."""
    from command_line import FINETUI
    from pty_terminal import PtyTerminal

    terminals: list[PtyTerminal] = []

    def make(*arguments: str, columns: int = 80, rows: int = 24, program: tuple[str, ...] = FINETUI) -> PtyTerminal:
        terminals.append(PtyTerminal([*program, *arguments], tmp_path, columns, rows))
        return terminals[-1]

    yield make
    for terminal in terminals:
        terminal.close()


@pytest.fixture
def watch() -> Iterator[Callable[..., Any]]:
    """Return what runs a link until the test is over, and gives the `Watcher` of what comes out of it."""
    from watching import Watcher

    watchers: list[Watcher] = []

    def make(link: Any) -> Watcher:
        watchers.append(Watcher(link))
        return watchers[-1]

    yield make
    for watcher in watchers:
        watcher.close()


@pytest.fixture(autouse=True)
def _private_places(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """No test reads or writes the places of the person who runs it."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "state"))
    monkeypatch.delenv("FINETUI_DATA", raising=False)


@pytest.fixture(scope="session")
def fork_server() -> Iterator[ForkServer]:
    server = ForkServer(os.environ.get(SHARED, ""))
    yield server
    server.close()


@pytest.fixture(scope="module", autouse=True)
def _forked_processes(request: pytest.FixtureRequest, fork_server: ForkServer) -> Iterator[None]:
    """What tests start is forked, but where it is about real processes."""
    with pytest.MonkeyPatch.context() as patch:
        if request.path.relative_to(TESTS).parts[0] not in ("faults", "gpu", "terminal"):
            patch.setenv(SERVER, fork_server.path)
            patch.setattr(ForkingPopen, "server", fork_server)
            patch.setattr(subprocess, "Popen", ForkingPopen)
        yield


@pytest.fixture(autouse=True)
def _no_engine_is_left(tmp_path: Path, fork_server: ForkServer, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """A test that fails half-way leaves an engine behind, which would train on beside the next tests."""
    monkeypatch.setenv(MARK, str(tmp_path))
    yield
    fork_server.kill_all(str(tmp_path))
    wanted = f"{MARK}={tmp_path}".encode()
    with os.scandir("/proc") as entries:
        there = {entry.name for entry in entries if entry.name.isdigit()}
    for process in (Path("/proc", number) for number in there - _seen):
        try:
            ours = wanted in (process / "environ").read_bytes().split(b"\0")
        except OSError:
            continue  # it has ended, or is another user's
        with suppress(OSError):
            if ours and b"finetui.engine.process.host" in (process / "cmdline").read_bytes():
                os.kill(int(process.name), signal.SIGKILL)
    _seen.clear()
    _seen.update(there)
