"""A real sshd on the loopback, a real ssh client in a terminal, and what becomes of a run when that one is killed."""

import getpass
import os
import re
import shlex
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from live_run import ENDLESS, LiveRun
from pty_terminal import PtyTerminal
from watching import Watcher, until

from finetui.engine.link.attach_link import AttachLink
from finetui.engine.protocol.events import Audience
from finetui.engine.runs.folder import RunFolder
from finetui.engine.runs.lock import holder_of, is_live

SSHD = shutil.which("sshd") or next((path for path in ("/usr/sbin/sshd", "/sbin/sshd") if Path(path).exists()), None)

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(
        SSHD is None or shutil.which("ssh") is None or shutil.which("ssh-keygen") is None,
        reason="needs an OpenSSH server and client (apt-get install openssh-server)",
    ),
]
needs_tmux = pytest.mark.skipif(shutil.which("tmux") is None, reason="needs tmux")

CONFIGURATION = """
ListenAddress 127.0.0.1
HostKey {keys}/host
AuthorizedKeysFile {keys}/user.pub
PidFile {keys}/pid
StrictModes no
UsePAM no
PasswordAuthentication no
PermitRootLogin prohibit-password
"""


class Ssh:
    """Opens connections to the sshd at `port`, each a client in a terminal of its own."""

    def __init__(self, port: int, keys: Path, cwd: Path) -> None:
        self._client = [
            "ssh", "-F", "none", "-p", str(port), "-i", str(keys / "user"), "-o", "IdentitiesOnly=yes",
            "-o", "StrictHostKeyChecking=no", "-o", f"UserKnownHostsFile={keys / 'known'}", "-o", "LogLevel=ERROR",
            f"{getpass.getuser()}@127.0.0.1",
        ]  # fmt: skip
        self._cwd = cwd
        self._terminals: list[PtyTerminal] = []

    def open(self, *command: str) -> PtyTerminal:
        """Run `command` in the folder of the test at the other end of a new connection."""
        # What tells the engines of a test from others, and keeps it to its own folders, is not for ssh to pass on.
        kept = {name: os.environ[name] for name in os.environ if name.startswith(("FINETUI", "XDG", "OMP", "TMUX"))}
        words = ["env", "-C", str(self._cwd), *(f"{name}={value}" for name, value in kept.items()), *command]
        line = f"echo connected; exec {shlex.join(words)}"
        for last in (False, False, True):
            terminal = PtyTerminal([*self._client, "-tt", line], self._cwd, 120, 40)
            self._terminals.append(terminal)
            try:
                terminal.until_true(lambda terminal=terminal: b"connected" in terminal.raw, "no connection", 20)
            except AssertionError:
                if last:  # a busy machine's sshd lets one wait for ever now and then
                    raise
                self._terminals.pop().close()
            else:
                break
        return self._terminals[-1]

    def finetui(self, *arguments: str) -> PtyTerminal:
        """Run finetui at the other end."""
        return self.open(sys.executable, "-m", "finetui", *arguments)

    def close(self) -> None:
        for terminal in self._terminals:
            terminal.close()


@pytest.fixture
def ssh(tmp_path: Path) -> Iterator[Ssh]:
    """An sshd of this test alone, with keys of its own, for the user who runs it."""
    keys = tmp_path / "keys"
    keys.mkdir(mode=0o700)
    for name in ("host", "user"):
        subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", str(keys / name)], check=True, timeout=60)
    (keys / "sshd.conf").write_text(CONFIGURATION.format(keys=keys))
    if os.geteuid() == 0:
        Path("/run/sshd").mkdir(mode=0o755, exist_ok=True)  # where root's sshd leaves its rights
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    with (keys / "log").open("wb") as log:
        server = subprocess.Popen([SSHD, "-D", "-e", "-f", keys / "sshd.conf", "-p", str(port)], stderr=log)
    made = Ssh(port, keys, tmp_path)
    try:
        until(lambda: server.poll() is not None or _accepts(port), "sshd does not come up")
        if server.poll() is not None:
            pytest.skip(f"sshd does not run here: {(keys / 'log').read_text().strip()[-200:]}")
        yield made
    finally:
        made.close()
        server.terminate()
        server.wait(20)


def _accepts(port: int) -> bool:
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) == 0


@pytest.fixture
def live(tmp_path: Path) -> LiveRun:
    return LiveRun(tmp_path)


def cut(terminal: PtyTerminal) -> None:
    """Kill the ssh client, as a laptop does that loses its power."""
    terminal.signal(signal.SIGKILL)
    assert terminal.until_exit() == -signal.SIGKILL


def assert_all_is_there(terminal: PtyTerminal, began: float, epoch: int, what: str) -> None:
    """Wait until the dashboard shows the run's history, and check that this came in time."""
    screen = terminal.until("running", "img/s", "conv1", "the best so far", seconds=20)
    seconds = time.monotonic() - began
    print(f"{what}: attached with the full history {seconds:.2f} s after the connection stood")
    # The requirement is 2 s, and what was measured is in docs/reliability.md: a bound that noise does not cross.
    assert seconds < 10
    assert int(re.findall(r"epoch +(\d+)/", screen)[0]) >= epoch
    terminal.type("o")
    terminal.until("Journal", "esc Back")  # its last line: all of it is there
    terminal.type("\x1b[H")  # the log's first lines: the run from its beginning
    terminal.until("run live in", "epoch 1:")
    terminal.type("\x1b")
    terminal.until("m Errors")  # the log may name a layer as well, and a key right after Escape is another key


def others(folder: RunFolder) -> tuple[str, ...]:
    """Return who watches the run now."""
    link = AttachLink(folder, name="looking", reading=True)
    watcher = Watcher(link)
    try:
        told = watcher.until(lambda event: isinstance(event, Audience) and "looking (reading)" in event.names)
        return tuple(name for name in told.names if name != "looking (reading)")
    finally:
        watcher.close()


def test_a_run_outlives_the_ssh_client_that_began_it(ssh: Ssh, live: LiveRun) -> None:
    """Row 12: 0 steps lost when the client is killed; attached within 2 s with the full history."""
    terminal = ssh.finetui(*ENDLESS)
    terminal.until("running", "the best so far")
    there = holder_of(live.folder)
    assert "from 127.0.0.1" in others(live.folder)[0]
    cut(terminal)
    assert live.goes_on()
    until(lambda: others(live.folder) == (), "the dashboard of the dead connection is still there")
    epoch = live.points()[-1].epoch
    back = ssh.finetui("attach")
    assert_all_is_there(back, time.monotonic(), epoch, "ssh")
    back.type("q")
    assert back.until_exit() == 0
    assert "finetui attach live" in back.left()
    assert live.goes_on()
    assert holder_of(live.folder) == there


@needs_tmux
def test_a_run_and_its_dashboard_in_tmux_outlive_the_ssh_client(
    ssh: Ssh, live: LiveRun, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Row 12: the same inside tmux, where the dashboard lives on as well, and others attach beside it."""
    monkeypatch.setenv("TMUX_TMPDIR", str(tmp_path))
    tmux = ("tmux", "-f", "/dev/null")
    try:
        terminal = ssh.open(*tmux, "new-session", sys.executable, "-m", "finetui", *ENDLESS)
        terminal.until("running", "the best so far")
        cut(terminal)
        assert live.goes_on()
        assert len(others(live.folder)) == 1
        epoch = live.points()[-1].epoch
        again = ssh.open(*tmux, "attach-session")
        again.until("running", "img/s", "the best so far")
        back = ssh.open(*tmux, "new-session", sys.executable, "-m", "finetui", "attach")
        assert_all_is_there(back, time.monotonic(), epoch, "ssh and tmux")
        for one in (again, back):
            one.until("2 dashboards")
        cut(back)
        cut(again)
        assert live.goes_on()
        assert len(others(live.folder)) == 2
    finally:
        subprocess.run([*tmux, "kill-server"], timeout=20, check=False)
    until(lambda: others(live.folder) == (), "the dashboards outlived the tmux server")
    assert live.goes_on()


def test_a_finished_run_waits_for_whoever_lost_the_connection(ssh: Ssh, tmp_path: Path) -> None:
    """Row 12: a connection that breaks is no goodbye; the engine stays until somebody leaves on purpose."""
    terminal = ssh.finetui(*ENDLESS[:-5], "--epochs", "1", "--name", "short", "--start")
    terminal.until("finished")
    folder = RunFolder(tmp_path / "checkpoints" / "short")
    there = holder_of(folder)
    assert there is not None
    cut(terminal)
    until(lambda: others(folder) == (), "the dashboard of the dead connection is still there")
    assert holder_of(folder) == there
    back = ssh.finetui("attach")
    back.until("finished", "conv1")
    back.type("q")
    assert back.until_exit() == 0
    until(lambda: not is_live(folder), "the engine did not leave")
