"""Threads for Textual's workers, which no exit waits for."""

import threading
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any, ParamSpec, TypeVar

_P = ParamSpec("_P")
_T = TypeVar("_T")


class DaemonExecutor(ThreadPoolExecutor):
    """Runs each call in a thread of its own that ends with the process.

    asyncio's own executor makes the process wait at its end for every call that still runs, however long that takes,
    and lets calls wait for one another while there are more of them than threads.
    """

    def __init__(self) -> None:
        super().__init__(max_workers=1)  # asyncio takes no other kind of executor; none of its threads is started

    def submit(self, fn: Callable[_P, _T], /, *args: _P.args, **kwargs: _P.kwargs) -> "Future[_T]":
        """Call `fn` in a thread and return what will hold its result."""
        future: Future[_T] = Future()
        name = getattr(fn, "__name__", type(fn).__name__)
        threading.Thread(target=_call, args=(future, fn, args, kwargs), name=f"worker-{name}", daemon=True).start()
        return future

    def shutdown(self, wait: bool = True, *, cancel_futures: bool = False) -> None:
        """Do nothing: nobody has to wait."""


def _call(future: "Future[Any]", fn: Callable[..., Any], args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
    if not future.set_running_or_notify_cancel():
        return
    try:
        result = fn(*args, **kwargs)
    except BaseException as error:  # noqa: BLE001  # it is raised where somebody waits for the result
        future.set_exception(error)
    else:
        future.set_result(result)
