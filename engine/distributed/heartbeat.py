"""Which ranks are still there: each leaves a sign of life where all can see it, and none waits for one that is gone."""

import os
import signal
import socket
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from typing import NamedTuple, Self, TypeVar

import msgspec
import psutil

from finetui.engine.distributed.rank_info import RankInfo
from finetui.engine.distributed.rendezvous import rendezvous_store
from finetui.engine.errors import FinetuiError, describe, reason_of

PATIENCE = 60.0  # seconds without a sign of life after which a rank is given up
_INTERVAL = 0.5  # seconds between two signs
_GRACE_SECONDS = 5.0  # that the main thread has, after a rank was lost, to come back from where it waits for that
_SUSPECT_SECONDS = 3 * _INTERVAL + 1  # of silence, once a message to somebody has failed
_TASK, _LOST, _BEAT = "finetui/task", "finetui/lost", "finetui/beat/"
# What libraries say where the other end is gone: no cause of its own.
_OF_OTHERS = ("peer", "Connection", "timed out", "Timed out", "gloo", "NCCL", "store")


class Beat(msgspec.Struct, frozen=True, kw_only=True):
    """A rank's sign of life, the `count`th: its process (`born` in Unix seconds), the signal that asked it to end (0:
    none), and its last `words`: why it fails. One that has `left` did so on purpose."""

    pid: int
    host: str
    born: float
    count: int = 0
    signal: int = 0
    words: str = ""
    left: bool = False


class Lost(msgspec.Struct, frozen=True):
    """A rank that is gone, and why, in a sentence."""

    rank: int
    reason: str


class _Heard(NamedTuple):
    beat: Beat
    at: float  # monotonic seconds, of its last new sign


_T = TypeVar("_T")
_beats, _losts = msgspec.json.Decoder(Beat), msgspec.json.Decoder(Lost)


class Heartbeat:
    """While entered, leaves signs of life for the rank that `info` tells of, and looks for those of the others.

    It keeps them in the store at which torchrun's ranks meet. Rank 0 looks after all others, and these after rank 0,
    which also tells them who else is lost. `asked_to_end` returns the signal that asked this rank to end (0: none), and
    `on_signal` is called on rank 0 with that of another rank. Where a rank is lost, and the main thread does not come
    back in time from waiting for it, `give_up` is called with the reason, and must end the process. All are called in a
    thread. `patience` is in seconds. Raises `FinetuiError` where the ranks do not meet.
    """

    def __init__(
        self,
        info: RankInfo,
        *,
        give_up: Callable[[str], None],
        on_signal: Callable[[int], None] = lambda _number: None,
        asked_to_end: Callable[[], int] = lambda: 0,
        patience: float | None = None,
    ) -> None:
        self._info = info
        self.give_up = give_up
        self._on_signal, self._asked_to_end = on_signal, asked_to_end
        self._patience = patience or float(os.environ.get("FINETUI_RANK_PATIENCE", PATIENCE))
        self._store = rendezvous_store(info)
        me = psutil.Process()
        self._beat = Beat(pid=me.pid, host=socket.gethostname(), born=me.create_time())
        self._heard: dict[int, _Heard] = {}
        self._told_signal = False
        self._lock = threading.Lock()  # of the store and the own sign
        self._ended = threading.Event()
        self._found = threading.Event()
        self.lost: Lost | None = None
        # Called on rank 0, twice a second, with the seconds since each other rank's last sign.
        self.on_heard: Callable[[Mapping[int, float]], None] = lambda _silence: None
        self.on_lost: Callable[[str], None] = lambda _reason: None  # called before `give_up`
        self._thread = threading.Thread(target=self._run, name="finetui-ranks", daemon=True)

    def __enter__(self) -> Self:
        """Begin to leave signs."""
        self._leave_sign()
        self._thread.start()
        return self

    def __exit__(self, _kind: object, error: BaseException | None, _traceback: object) -> None:
        """Leave, on purpose or because of `error`, which the others are told."""
        self._ended.set()
        self._thread.join(_GRACE_SECONDS)
        words = str(error) if isinstance(error, FinetuiError) and self.lost is None else ""
        with suppress(RuntimeError):  # the store's host may have left before
            self._leave_sign(words=words, left=True)

    # -- what the ranks tell each other ------------------------------------------------------------------

    def tell_task(self, task: bytes) -> None:
        """Tell the other ranks, from rank 0, what to do; empty: nothing, since rank 0 has given up."""
        with self._lock:
            self._store.set(_TASK, task.decode())

    def await_task(self) -> bytes:
        """Return what rank 0 has told. Raises `FinetuiError` where that never came."""
        try:
            while not self._has(_TASK):
                if self.lost is not None:
                    raise FinetuiError(self.lost.reason)
                time.sleep(0.05)
            return bytes(self._asked(lambda: self._store.get(_TASK)))
        except RuntimeError as error:
            raise FinetuiError(f"rank 0 is gone: {reason_of(error)}") from error

    def await_leaving(self, seconds: float) -> None:
        """Wait up to so many `seconds` until all other ranks have been here, and left."""
        deadline = time.monotonic() + seconds
        while time.monotonic() < deadline and self.lost is None:
            left = [heard.beat.left for heard in list(self._heard.values())]
            if len(left) == self._info.world - 1 and all(left):
                return
            time.sleep(0.05)

    def reason(self, error: Exception) -> str | None:
        """Return why `error`, which the main thread met, came about, where another rank was the cause; else None.

        What is this rank's own fault is told the others.
        """
        if isinstance(error, FinetuiError) or not isinstance(error, RuntimeError | OSError):
            self._say(describe(error))
            return None
        if not any(word in str(error) for word in _OF_OTHERS):
            self._say(describe(error))
        self._found.wait(_SUSPECT_SECONDS + _INTERVAL)
        if self.lost is None and self._info.is_first:
            self._suspect()
        return self.lost.reason if self.lost is not None else None

    def _say(self, words: str) -> None:
        with suppress(RuntimeError):
            self._leave_sign(words=words)

    # -- the thread --------------------------------------------------------------------------------------

    def _run(self) -> None:
        while not self._ended.wait(_INTERVAL):
            try:
                self._leave_sign()
                self._look()
            except RuntimeError as error:  # the store is gone, and with it who had it
                self._lose(Lost(0, f"rank 0, or the launcher, is gone: {reason_of(error, 100)}"))
            if self.lost is not None:
                self._end()
                return

    def _leave_sign(self, *, words: str = "", left: bool = False) -> None:
        with self._lock:
            count = self._beat.count + 1
            self._beat = msgspec.structs.replace(
                self._beat, count=count, left=left, words=words or self._beat.words, signal=self._asked_to_end()
            )
            self._store.set(f"{_BEAT}{self._info.rank}", msgspec.json.encode(self._beat).decode())

    def _look(self) -> None:
        if self._info.is_first:
            self._hear(range(1, self._info.world))
            for heard in self._heard.values():
                if heard.beat.signal and not self._told_signal:
                    self._told_signal = True
                    self._on_signal(heard.beat.signal)
            at = time.monotonic()
            self.on_heard({rank: at - heard.at for rank, heard in self._heard.items() if not heard.beat.left})
        else:
            self._hear([0])
            if self._has(_LOST):
                self._lose(_losts.decode(self._asked(lambda: self._store.get(_LOST))))
        now = time.monotonic()
        for rank, heard in self._heard.items():
            reason = self._why_lost(rank, heard, now)
            if reason and self.lost is None:
                self._lose(Lost(rank, reason))

    def _hear(self, ranks: Sequence[int]) -> None:
        keys = {rank: f"{_BEAT}{rank}" for rank in ranks}
        # One that has not come yet is waited for where the ranks meet.
        known = [rank for rank in ranks if rank in self._heard or self._has(keys[rank])]
        values = self._asked(lambda: self._store.multi_get([keys[rank] for rank in known])) if known else []
        for rank, value in zip(known, values, strict=True):
            beat = _beats.decode(value)
            before = self._heard.get(rank)
            if before is None or before.beat.count != beat.count:
                self._heard[rank] = _Heard(beat, time.monotonic())

    def _has(self, key: str) -> bool:
        with self._lock:
            return bool(self._store.check([key]))

    def _asked(self, question: Callable[[], _T]) -> _T:
        with self._lock:
            return question()

    def _why_lost(self, rank: int, heard: _Heard, now: float, patience: float | None = None) -> str:
        """Return why `rank` counts as lost; empty where it does not."""
        beat, patience = heard.beat, self._patience if patience is None else patience
        who = f"rank {rank} (process {beat.pid} on {beat.host})"
        if beat.words:
            return f"{who} failed: {beat.words}"
        if beat.left:
            return ""
        if beat.host == self._beat.host and _process(beat) is None:
            return f"{who} is gone: it was killed, or ran out of memory"
        if now - heard.at > patience:
            return f"{who} has not responded for {now - heard.at:.0f} s: it is stopped or unreachable"
        return ""

    def _suspect(self) -> None:
        """Find who is gone, now that a message has failed: on another node, silence alone tells it."""
        now = time.monotonic()
        for rank, heard in sorted(self._heard.items(), key=lambda item: item[1].at):
            reason = self._why_lost(rank, heard, now, _SUSPECT_SECONDS)
            if reason:
                self._lose(Lost(rank, reason))
                return

    def _lose(self, lost: Lost) -> None:
        self.lost = self.lost or lost
        if self._info.is_first:
            with suppress(RuntimeError), self._lock:
                self._store.set(_LOST, msgspec.json.encode(self.lost).decode())
        heard = self._heard.get(lost.rank)
        stopped = _process(heard.beat) if heard is not None and heard.beat.host == self._beat.host else None
        if stopped is not None and stopped.status() == psutil.STATUS_STOPPED:
            stopped.send_signal(signal.SIGKILL)  # or it goes on by itself one day, and all wait for it until then
        self._found.set()

    def _end(self) -> None:
        """See to it that the process ends, where its main thread does not see to that."""
        assert self.lost is not None, "a rank was lost"
        if not self._ended.wait(_GRACE_SECONDS):
            self.on_lost(self.lost.reason)
            self.give_up(self.lost.reason)


def _process(beat: Beat) -> psutil.Process | None:
    """Return the process that has left `beat` on this host; None where it has ended."""
    try:
        process = psutil.Process(beat.pid)
        same = abs(process.create_time() - beat.born) < 1 and process.status() != psutil.STATUS_ZOMBIE
    except psutil.Error:
        return None
    return process if same else None
