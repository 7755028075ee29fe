"""Faults of finetui's own, at a place of its code, and what its callbacks make of them."""

import sys
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from inspect import unwrap
from types import FrameType
from typing import Any


class Fault(Exception):
    """What no method of finetui's can have foreseen."""


@contextmanager
def raising_in(function: Callable[..., Any]) -> Iterator[list[str]]:
    """Have the first call of `function` raise a `Fault` as it begins; yield the list that it is then written into."""
    code, raised = unwrap(function).__code__, list[str]()

    def trace(frame: FrameType, _kind: str, _argument: Any) -> None:
        if frame.f_code is code:
            raised.append(code.co_name)
            raise Fault("of finetui's own")  # it comes out of the function; Python traces no more

    sys.settrace(trace)
    try:
        yield raised
    finally:
        sys.settrace(None)


def trained_with_a_fault(work: Callable[[], Any], function: Callable[..., Any]) -> tuple[Any, list[str]]:
    """Return what `work` returns though `function` raises in it, which it must, and finetui's warnings."""
    with warnings.catch_warnings(record=True) as said, raising_in(function) as raised:
        warnings.simplefilter("always")
        found = work()
    assert raised, "it was never called"
    return found, [str(one.message) for one in said if str(one.message).startswith("finetui")]


def called_by(library: type, callback: type) -> list[str]:
    """Return the methods of a `callback` that its `library` calls in a training that nothing goes wrong in."""
    never = ("on_exception", "on_predict")
    return [
        name for name in vars(callback) if not name.startswith("_") and hasattr(library, name) and name not in never
    ]
