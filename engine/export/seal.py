"""The seal of an exported file: a SHA-256 of all its bytes, written into its own metadata in place of zeros.

It is no signature: whoever changes a file on purpose can seal it anew. What is caught is damage, and any tool that
changes classes, preprocessing or weights and leaves the rest. A pt2 file is a zip archive with checksums of its own,
and is sealed at its end as a checkpoint is.
"""

import hashlib
import io
import re

from finetui.engine.checkpoints.seal import Sealer, find_seal, seal_of
from finetui.engine.errors import BadInput

_MARK = b"finetui-sha256:"
_PATTERN = re.compile(_MARK + rb"([0-9a-f]{64})")
BLANK = (_MARK + b"0" * 64).decode()


def sealed(data: bytes) -> bytes:
    """Return the file `data`, which has `BLANK` once, with its seal. Raises `BadInput` where it has that more often."""
    places = [match.span(1) for match in _PATTERN.finditer(data)]
    if len(places) != 1:
        raise BadInput(f"the export cannot be sealed: {_MARK.decode()} occurs in a class name or in the weights")
    return _with(data, places[0], hashlib.sha256(data).hexdigest().encode())


def is_sealed(data: bytes) -> bool:
    """Tell whether the file `data` has a seal, right or wrong."""
    return _PATTERN.search(data) is not None


def is_whole(data: bytes) -> bool:
    """Tell whether the file `data` is as it was when it was `sealed`."""
    places = [match.span(1) for match in _PATTERN.finditer(data)]
    if len(places) != 1:
        return False
    blank = _with(data, places[0], b"0" * 64)
    return hashlib.sha256(blank).hexdigest().encode() == data[slice(*places[0])]


def _with(data: bytes, place: tuple[int, int], text: bytes) -> bytes:
    return data[: place[0]] + text + data[place[1] :]


def sealed_archive(data: bytes) -> bytes:
    """Return the zip archive `data`, which has no comment, with its seal as one."""
    target = io.BytesIO()
    sealer = Sealer(target)
    sealer.write(data)
    sealer.finish()
    return target.getvalue()


def is_whole_archive(data: bytes) -> bool:
    """Tell whether the zip archive `data` is as it was when it was sealed."""
    file = io.BytesIO(data)
    return find_seal(file) == seal_of(file)
