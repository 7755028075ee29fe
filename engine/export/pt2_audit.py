"""A look at a pt2 file before torch loads it, which would unpickle what it is told to, and evaluate expressions.

What finetui writes needs neither: its tensors are plain bytes, its operations torch's own, its sizes simple sums.
"""

import io
import re
import zipfile
from collections.abc import Iterator
from typing import Any

import msgspec

from finetui.engine.errors import BadInput, reason_of
from finetui.engine.export.description import KEY

_ROOT = "archive/"
_FILES = re.compile(
    rf"archive_format|archive_version|byteorder|version|\.data/(version|serialization_id)|\.format_version|extra/{KEY}|"
    r"models/model\.json|data/sample_inputs/model\.pt|"
    r"data/(weights|constants)/(model_(weights|constants)_config\.json|(weight|tensor)_\d+)"
)
_OPERATIONS = re.compile(
    r"torch\.ops\.(aten|prims|torchvision|higher_order)\.(?!from_file)\w+(\.\w+)*|_operator\.\w+|math\.\w+|"
    r"torch\.sym_\w+|torch\._sym_\w+"
)
# As sympy writes its expressions: it reads them again by evaluating them as Python.
_EXPRESSION = re.compile(
    r"(?:Symbol\('[a-z]{1,4}\d+'|Integer|Rational|Float\('[-+.\de]+'|precision|Add|Mul|Pow|Max|Min|Mod|PythonMod|FloorDiv|"
    r"CleanDiv|CeilDiv|CeilToInt|FloorToInt|IntTrueDiv|FloatTrueDiv|ToFloat|TruncToInt|RoundToInt|Identity|Where|"
    r"Equality|Unequality|StrictLessThan|StrictGreaterThan|LessThan|GreaterThan|And|Or|Not|floor|ceiling|"
    r"positive|nonnegative|integer|true|false|True|False|int_oo|oo|\d+(?:\.\d+)?|[-+*/(),<>= ])*"
)


def audit(file: io.BytesIO, where: str = "the pt2 file") -> str:
    """Return the description in the pt2 `file`, as JSON; empty where it has none, and leave `file` at its start.

    Raises `BadInput` where torch would have to unpickle anything of it, run anything but its own operations, or
    evaluate what is no sum of sizes.
    """
    try:
        with zipfile.ZipFile(file) as archive:
            names = archive.namelist()
            problem = next((f"it holds {name}" for name in names if not _is_known(name)), None)
            problem = problem or _in_payloads(archive, names) or _in_graph(archive)
            extra = f"{_ROOT}extra/{KEY}"
            text = archive.read(extra).decode() if extra in names else ""
    except (zipfile.BadZipFile, LookupError, ValueError, EOFError, OSError, NotImplementedError) as error:
        raise BadInput(f"{where} is not a pt2 file, or is damaged: {reason_of(error, 120)}") from error
    if problem is not None:
        raise BadInput(f"{where} is not loaded, since it could run code: {problem}")
    file.seek(0)
    return text


def _is_known(name: str) -> bool:
    return name.startswith(_ROOT) and _FILES.fullmatch(name.removeprefix(_ROOT)) is not None


def _in_payloads(archive: zipfile.ZipFile, names: list[str]) -> str | None:
    """Return what in its weights and constants would be unpickled, or None."""
    for kind in ("weights", "constants"):
        found = msgspec.json.decode(archive.read(f"{_ROOT}data/{kind}/model_{kind}_config.json"))
        for name, payload in found["config"].items():
            if payload["use_pickle"] is not False:
                return f"{kind} {name!r} are pickled"
    inputs = f"{_ROOT}data/sample_inputs/model.pt"
    if inputs in names and archive.getinfo(inputs).file_size:
        return "it has pickled inputs"
    return None


def _in_graph(archive: zipfile.ZipFile) -> str | None:
    """Return which operation or expression of its graph is no usual one, or None."""
    for key, value in _walk(msgspec.json.decode(archive.read(f"{_ROOT}models/model.json"))):
        if key == "target" and not _OPERATIONS.fullmatch(value):
            return f"its graph calls {value[:60]!r}"
        if key == "expr_str" and not _EXPRESSION.fullmatch(value):
            return f"it has the expression {value[:60]!r}"
    return None


def _walk(value: Any) -> Iterator[tuple[str, str]]:
    """Yield the texts within `value` that stand under a key, with it."""
    waiting = [value]
    while waiting:
        found = waiting.pop()
        if isinstance(found, dict):
            yield from ((key, inner) for key, inner in found.items() if isinstance(inner, str))
            waiting.extend(found.values())
        elif isinstance(found, list):
            waiting.extend(found)
