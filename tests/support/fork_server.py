"""Starts `finetui` and its engines by forking one process that has imported everything: PyTorch takes seconds.

`ForkingPopen` takes the place of `subprocess.Popen` in tests. What is no plain `python -m finetui...`, no program of
finetui's own for `python -P -c` and none that a test has begun with `FORKED` is started as ever.
"""

import atexit
import fcntl
import gc
import json
import os
import runpy
import select
import selectors
import signal
import socket
import subprocess
import sys
import tempfile
import termios
import threading
import types
from contextlib import suppress
from pathlib import Path
from typing import Any

_PROGRAMS = ("finetui", "finetui.engine.process.host")
FORKED = (sys.executable, "-X", "forked", "-c")  # of a program that needs no interpreter of its own
SERVER = "FINETUI_TEST_FORKS"  # the environment variable that holds the path of the server's socket
SHARED = "FINETUI_TEST_SHARED_FORKS"  # the one that holds that of a server which all workers of pytest-xdist share
MARK = "FINETUI_TEST"  # the one that names the test which something was started for
_INTERPRETER = ("PYTHON", "LC_", "LANG")  # what Python reads once, when it starts
_ENCODING = "PYTHONIOENCODING"  # but for this one, which is obeyed here
_IMPORTS = """
import captum.attr, plotext, torchvision
import finetui.engine.inspection.engine, finetui.engine.process.endpoint, finetui.engine.process.linger
import finetui.engine.process.memory, finetui.engine.process.signals, finetui.engine.session.serve
import finetui.tui.app.app, finetui.tui.app.launch, finetui.tui.cli.main
"""


def take_terminal() -> None:
    """Take standard input as the terminal of this process's session: for `preexec_fn`."""
    fcntl.ioctl(0, termios.TIOCSCTTY, 0)


def _program(command: Any) -> dict[str, Any] | None:
    """Return what to run for a `command` that can be forked."""
    words = [command] if isinstance(command, str | bytes | os.PathLike) else list(command)
    safe_path = words[1:2] == ["-P"]
    interpreter, *words = [word for word in words if word != "-P" or not safe_path]
    if interpreter != sys.executable:
        return None
    match words:
        case ["-m", module, *arguments] if module in _PROGRAMS:
            found = {"module": module}
        case ["-X", "forked", "-c", code, *arguments]:
            found = {"code": code}
        case ["-c", code, *arguments] if safe_path:
            found = {"code": code}
        case _:
            return None
    return found | {"arguments": list(map(os.fspath, arguments)), "safe_path": safe_path}


def _same_interpreter(env: dict[str, str]) -> bool:
    keys = {key for key in (*env, *os.environ) if key.startswith(_INTERPRETER)} - {_ENCODING}
    return all(env.get(key) == os.environ.get(key) for key in keys)


class ForkingPopen(subprocess.Popen):
    """A process as `subprocess` has it; `finetui` and its engines are forked by the server."""

    server: "ForkServer | None" = None  # what is to be started first
    _connection: socket.socket | None = None  # to the server, which sends the exit status through it

    def _execute_child(self, args: Any, *rest: Any) -> None:  # where Popen starts the process; all else is its own
        _, preexec, _, passed, cwd, env, _, _, shell, *pipes = rest[:15]
        env = dict(os.environ if env is None else env)
        found = _program(args)
        if found is None or preexec not in (None, take_terminal) or passed or shell or not _same_interpreter(env):
            super()._execute_child(args, *rest)
            return
        if self.server is not None:
            self.server.start()
        path = os.environ[SERVER]
        request = found | {"cwd": str(cwd or Path.cwd()), "env": env | {SERVER: path}}
        request |= {"session": rest[20], "terminal": preexec is take_terminal}
        standard = [own if own >= 0 else number for number, own in enumerate((pipes[0], pipes[3], pipes[5]))]
        self._connection = _asked(path, request, standard)
        self.pid = int.from_bytes(self._connection.recv(4), "little")
        self._child_created = True
        self._close_pipe_fds(*pipes)

    def _internal_poll(self, *args: Any, **options: Any) -> int | None:
        if self._connection is None:
            return super()._internal_poll(*args, **options)
        return self._heard(0)

    def _wait(self, timeout: float | None) -> int:
        if self._connection is None:
            return super()._wait(timeout)
        if self._heard(timeout) is None:
            raise subprocess.TimeoutExpired(self.args, timeout)
        return self.returncode

    def _heard(self, timeout: float | None) -> int | None:
        with selectors.DefaultSelector() as selector:
            selector.register(self._connection, selectors.EVENT_READ)
            if self.returncode is None and selector.select(timeout):
                # Left where it is: two threads may ask at once.
                status = self._connection.recv(4, socket.MSG_PEEK)
                self.returncode = int.from_bytes(status, "little", signed=True) if status else -signal.SIGKILL
        return self.returncode


class ForkServer:
    """A server, once something is to be started: its own for as long as it is open, or the one at the path `shared`."""

    def __init__(self, shared: str = "") -> None:
        # A socket's path is short.
        self._folder = None if shared else tempfile.TemporaryDirectory(prefix="forks-", dir="/tmp")
        self._lock = threading.Lock()
        self._process: subprocess.Popen[bytes] | None = None
        self._asked = False
        self.path = f"{self._folder.name}/socket" if self._folder else shared

    def start(self) -> None:
        with self._lock:
            if not self._asked and self._folder is not None:
                with self._listening() as listener:
                    self._run(listener)
            self._asked = True

    def start_once_asked(self) -> None:
        """Start it when somebody who shares it connects."""
        listener = self._listening()

        def wait() -> None:
            select.select([listener], [], [])
            with self._lock, listener:
                self._run(listener)

        threading.Thread(target=wait, name="fork server", daemon=True).start()

    def _listening(self) -> socket.socket:
        listener = socket.socket(socket.AF_UNIX)
        listener.bind(self.path)
        listener.listen(100)  # whoever comes before it has imported everything waits
        return listener

    def _run(self, listener: socket.socket) -> None:
        self._process = subprocess.Popen(
            [sys.executable, __file__, str(listener.fileno())],
            stdin=subprocess.PIPE,
            stdout=subprocess.DEVNULL,
            pass_fds=[listener.fileno()],
            start_new_session=True,
            env=os.environ | {"OMP_NUM_THREADS": "1"},
        )

    def kill_all(self, mark: str) -> None:
        """Kill what is left of what was started for the test `mark`."""
        if self._asked:
            with _asked(self.path, {"kill": mark}, []) as connection:
                connection.recv(4)

    def close(self) -> None:
        """End the server, and all that it has started, if it is this one's own."""
        with self._lock:
            if self._process is not None:
                with suppress(OSError):  # it has ended
                    _asked(self.path, {"end": True}, []).close()
                self._process.communicate()
        if self._folder is not None:
            self._folder.cleanup()


def _asked(path: str, request: dict[str, Any], descriptors: list[int]) -> socket.socket:
    """Return a connection on which `request` was sent."""
    connection = socket.socket(socket.AF_UNIX)
    connection.connect(path)
    content = json.dumps(request).encode()
    socket.send_fds(connection, [len(content).to_bytes(4, "little")], descriptors)
    connection.sendall(content)
    return connection


def _request(connection: socket.socket) -> tuple[dict[str, Any], list[int]]:
    size, descriptors, _, _ = socket.recv_fds(connection, 4, 3)
    return json.loads(connection.recv(int.from_bytes(size, "little"), socket.MSG_WAITALL)), descriptors


# -- the server ---------------------------------------------------------------------------------------


class _Server:
    def __init__(self, listener: socket.socket) -> None:
        self._listener = listener
        self._children: dict[int, tuple[socket.socket, str]] = {}  # by process: who asked for it, and its mark
        self._selector = selectors.DefaultSelector()
        self._selector.register(0, selectors.EVENT_READ, self._end)  # closed once the tests have ended
        self._selector.register(listener, selectors.EVENT_READ, self._answer)
        self._woken, self._wakes = socket.socketpair()
        self._wakes.setblocking(False)
        self._selector.register(self._woken, selectors.EVENT_READ, self._reap)
        signal.signal(signal.SIGCHLD, lambda *_: None)
        signal.set_wakeup_fd(self._wakes.fileno())

    def next(self) -> dict[str, Any]:
        """Return what to run, in the process that is to run it."""
        while True:
            for key, _ in self._selector.select():
                if (request := key.data()) is not None:
                    return request

    def _answer(self) -> dict[str, Any] | None:
        connection, _ = self._listener.accept()
        request, descriptors = _request(connection)
        if request.get("end"):  # also where a test has forked a process that still holds the server's input
            self._end()
        if (mark := request.get("kill")) is not None:
            with connection:
                self._kill([pid for pid, (_, its) in self._children.items() if its == mark])
            return None
        pid = os.fork()
        if pid == 0:
            connection.close()
            self._become(request, descriptors)
            return request
        self._children[pid] = connection, request["env"].get(MARK, "")
        for descriptor in descriptors:
            os.close(descriptor)
        with suppress(OSError):
            connection.send(pid.to_bytes(4, "little"))
        return None

    def _kill(self, pids: list[int]) -> None:
        for pid in pids:
            os.kill(pid, signal.SIGKILL)
            self._bury(*os.waitpid(pid, 0))

    def _reap(self) -> None:
        self._woken.recv(1000)
        while self._children:
            pid, status = os.waitpid(-1, os.WNOHANG)
            if pid == 0:
                return
            self._bury(pid, status)

    def _bury(self, pid: int, status: int) -> None:
        connection, _ = self._children.pop(pid)
        with connection, suppress(OSError):  # whoever asked for it may have gone
            connection.send(os.waitstatus_to_exitcode(status).to_bytes(4, "little", signed=True))

    def _end(self) -> None:
        self._kill(list(self._children))
        os._exit(0)

    def _become(self, request: dict[str, Any], descriptors: list[int]) -> None:
        """Make this process one that Python has just started."""
        signal.set_wakeup_fd(-1)
        signal.signal(signal.SIGCHLD, signal.SIG_DFL)
        signal.signal(signal.SIGINT, signal.default_int_handler)
        self._selector.close()
        for open_socket in (self._listener, self._woken, self._wakes, *(one for one, _ in self._children.values())):
            open_socket.close()
        for number, descriptor in enumerate(descriptors):
            os.dup2(descriptor, number)
            os.close(descriptor)
        if request["session"]:
            os.setsid()
        if request["terminal"]:
            take_terminal()
        os.environ.clear()
        os.environ.update(request["env"])
        os.chdir(request["cwd"])
        sys.argv = ["" if "module" in request else "-c", *request["arguments"]]
        sys.path[:1] = [] if request["safe_path"] else [request["cwd"]]
        _open_standard_streams()


def _open_standard_streams() -> None:
    for number, name in enumerate(("stdin", "stdout", "stderr")):
        old = getattr(sys, name)
        lines = number == 2 or os.isatty(number)
        encoding = os.environ.get(_ENCODING)
        errors = ("backslashreplace" if number == 2 else "strict") if encoding else old.errors
        stream = open(  # noqa: SIM115
            number, "w" if number else "r", encoding=encoding or old.encoding, errors=errors, closefd=False,
            buffering=1 if lines and number else -1,
        )  # fmt: skip
        setattr(sys, name, stream)
        setattr(sys, f"__{name}__", stream)


def _run(request: dict[str, Any]) -> None:
    """Run a program and end as Python does, but for freeing all that was imported, which takes longer than a test."""
    status = 0
    try:
        if "module" in request:
            runpy.run_module(request["module"], run_name="__main__", alter_sys=True)
        else:
            sys.modules["__main__"] = main = types.ModuleType("__main__")
            exec(compile(request["code"], "<string>", "exec"), vars(main))
    except SystemExit as end:
        status = end.code if isinstance(end.code, int) else 0 if end.code is None else 1
    except BaseException:  # noqa: BLE001  # as Python itself ends
        status = 1
        sys.last_type, sys.last_value, sys.last_traceback = sys.exc_info()
        sys.excepthook(*sys.exc_info())
    threading._shutdown()
    atexit._run_exitfuncs()
    for stream in (sys.stdout, sys.stderr):
        with suppress(OSError):
            stream.flush()
    os._exit(status & 0xFF)


if __name__ == "__main__":
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    exec(_IMPORTS)
    gc.freeze()
    asked = _Server(socket.socket(fileno=int(sys.argv[1]))).next()
    subprocess.Popen = ForkingPopen  # for its engine
    _run(asked)
