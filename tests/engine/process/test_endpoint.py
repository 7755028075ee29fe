"""An engine's socket and log, which follow it from run to run."""

import shutil
import subprocess
import tempfile
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest
from fork_server import FORKED
from watching import until

from finetui.engine.link import sockets
from finetui.engine.link.frames import Hello, encode_frame
from finetui.engine.process.endpoint import Endpoint
from finetui.engine.protocol.events import RunStarted
from finetui.engine.protocol.queues import CommandQueue
from finetui.engine.runs.folder import RunFolder
from finetui.engine.runs.lock import RunLock, holder_of

# Prints in three places: before there is a run, in the first one, and in the second one.
PRINTING = """
import sys
from pathlib import Path
from finetui.engine.process.endpoint import Endpoint
from finetui.engine.protocol.events import RunStarted
from finetui.engine.protocol.queues import CommandQueue
socket, log, *runs = map(Path, sys.argv[1:])
with Endpoint(CommandQueue(), 0.0, path=socket, log=log) as endpoint:
    print("early", flush=True)
    for run in runs:
        endpoint.publish(RunStarted(name=run.name, path=str(run)))
        print(f"in {run.name}", flush=True)
endpoint.remove_early_log()
"""


@pytest.fixture
def runtime(monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    folder = Path(tempfile.mkdtemp(prefix="endpoint-", dir="/tmp"))  # pytest's own are too long for a socket
    monkeypatch.setenv("XDG_RUNTIME_DIR", str(folder))
    yield folder
    shutil.rmtree(folder)


def test_the_lock_of_every_run_tells_of_a_socket_that_moved(runtime: Path, tmp_path: Path) -> None:
    folders = [RunFolder(tmp_path / name) for name in ("first", "second")]
    with Endpoint(CommandQueue(), 0.0) as endpoint:
        for folder in folders:
            folder.path.mkdir()
            lock = RunLock(folder, str(endpoint.path))
            endpoint.publish(RunStarted(name=folder.name, path=str(folder.path)))
            before = holder_of(folder).socket
            assert Path(before).is_socket()
            Path(before).unlink()
            until(lambda before=before, folder=folder: holder_of(folder).socket != before)
            assert Path(holder_of(folder).socket).is_socket()
            lock.release()


def test_what_is_printed_goes_to_the_log_of_each_run(runtime: Path, tmp_path: Path) -> None:
    folders = [RunFolder(tmp_path / name) for name in ("first", "second")]
    for folder in folders:
        folder.path.mkdir()
    early = runtime / "x.log"
    with early.open("wb") as log:
        arguments = [runtime / "x.sock", early, *(folder.path for folder in folders)]
        subprocess.run([*FORKED, PRINTING, *arguments], stdout=log, stderr=log, check=True, timeout=60)
    assert folders[0].log.read_text() == "early\nin first\n"
    assert folders[1].log.read_text() == "in second\n"
    assert not early.exists()


def test_an_engine_that_has_failed_waits_for_who_started_it(runtime: Path) -> None:
    with Endpoint(CommandQueue(), 0.0) as endpoint:
        waiting = threading.Thread(target=endpoint.await_first_client)
        waiting.start()
        assert waiting.is_alive()
        with sockets.connect(str(endpoint.path)) as client:
            client.sendall(encode_frame(Hello(name="a dashboard")))
            waiting.join(60)
            assert not waiting.is_alive()
