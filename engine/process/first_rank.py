"""The first of several processes that train one run: it leads the others, and sees to it that none is waited for."""

import os
import signal
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING

import msgspec

from finetui.engine.distributed.rank_info import RankInfo
from finetui.engine.errors import FinetuiError
from finetui.engine.process.parent_watch import ParentWatch
from finetui.engine.process.signals import EndSignals
from finetui.engine.protocol.requests import HostRequest

if TYPE_CHECKING:
    from finetui.engine.distributed.ranks import Ranks

_GOODBYE_SECONDS = 0.5  # for those who watch to hear why it ends
_RELEASE_SECONDS = 60.0  # that the others have to come, and to hear that there is nothing to do
_led = False  # whether this process has told the others what to do


@contextmanager
def leading(info: RankInfo, task: HostRequest, signals: EndSignals, last_act: Callable[[], None]) -> Iterator["Ranks"]:
    """Within it the other ranks do `task`, too; what is yielded are the ranks.

    `last_act` is called before the process ends because a rank is lost and its main thread waits for that. Of a single
    process there are no others. Raises `FinetuiError` where they cannot be met.
    """
    global _led
    if info.world == 1:
        from finetui.engine.distributed.ranks import SINGLE

        yield SINGLE
        return
    _led = True
    with ParentWatch(lambda: signals.ask(signal.SIGTERM)):
        from finetui.engine.distributed.heartbeat import Heartbeat
        from finetui.engine.distributed.ranks import Ranks

        def give_up(reason: str) -> None:
            print(f"finetui: {reason}", file=sys.stderr, flush=True)
            time.sleep(_GOODBYE_SECONDS)
            last_act()
            os._exit(signals.status or 1)

        with Heartbeat(info, give_up=give_up, on_signal=signals.ask) as heartbeat:
            ranks = Ranks.from_environment()
            ranks.heartbeat = heartbeat
            heartbeat.tell_task(msgspec.json.encode(task))
            yield ranks


def leave(info: RankInfo, status: int) -> int:
    """Return `status`, with which the process is to end; where its ranks have not ended well, end it here and now.

    The interpreter's own end would take their connections down in order, and may wait for one that is gone.
    """
    if info.world > 1 and status:
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(status)
    return status


def release(info: RankInfo) -> None:
    """Let the other ranks go where this process has nothing to do for them, and wait for that a while."""
    if _led or info.world == 1:
        return
    from finetui.engine.distributed.heartbeat import Heartbeat

    with suppress(FinetuiError), Heartbeat(info, give_up=lambda _reason: None) as heartbeat:
        heartbeat.tell_task(b"")
        heartbeat.await_leaving(_RELEASE_SECONDS)
