"""What stands for the harmless objects that people save beside weights: attributes, paths, NumPy's numbers and arrays.

None of their classes is looked up and none is made: a name that is not listed here is refused by `Machine`.
"""

import math
import re
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from finetui.engine.checkpoints.pickle_audit import (
    STATE_DICT,
    ArchiveError,
    Attributes,
    Function,
    Globals,
    MoreThanTensors,
)

_NUMBERS = re.compile(r"[biufc]\d{1,2}")
_MOST_DIMENSIONS = 64


@dataclass(slots=True)
class ArrayDtype:
    """Stands for a NumPy dtype of numbers."""

    name: str
    order: str = "="

    def set_state(self, state: Any) -> None:
        """Take the byte order. Raises `MoreThanTensors` for fields and subarrays."""
        if type(state) is not tuple or len(state) < 5 or any(part is not None for part in state[2:5]):
            raise MoreThanTensors("an array that is not numeric")
        if state[1] not in ("<", ">", "|", "="):
            raise TypeError
        self.order = state[1]

    def numpy(self) -> np.dtype[Any]:
        """Return the dtype."""
        return np.dtype(self.order + self.name)


@dataclass(slots=True)
class Array:
    """Stands for a NumPy array of numbers."""

    shape: tuple[int, ...] = ()
    dtype: ArrayDtype | None = None
    data: bytes = b""
    fortran: bool = False

    def set_state(self, state: Any) -> None:
        """Take what pickle keeps of an array. Raises `ArchiveError` unless its bytes are as many as it says."""
        _, shape, dtype, fortran, data = state
        if type(shape) is not tuple or len(shape) > _MOST_DIMENSIONS or any(type(n) is not int or n < 0 for n in shape):
            raise TypeError
        if type(dtype) is not ArrayDtype or type(data) is not bytes:
            raise MoreThanTensors("an array that is not numeric")
        if math.prod(shape) * dtype.numpy().itemsize != len(data):
            raise ArchiveError("one of its arrays is not as long as stated")
        self.shape, self.dtype, self.data, self.fortran = shape, dtype, data, bool(fortran)

    def numpy(self) -> npt.NDArray[Any]:
        """Return the array, in this machine's byte order."""
        assert self.dtype is not None, "an array without a state has no numbers"
        found = np.frombuffer(self.data, self.dtype.numpy()).reshape(self.shape, order="F" if self.fortran else "C")
        return np.array(found, dtype=found.dtype.newbyteorder("="), order="C")


def _dtype(name: Any, *_options: Any) -> ArrayDtype:
    if type(name) is not str or not _NUMBERS.fullmatch(name):
        raise MoreThanTensors("an array that is not numeric")
    return ArrayDtype(name)


def _scalar(dtype: Any, data: Any = b"") -> Any:
    if type(dtype) is not ArrayDtype or type(data) is not bytes or len(data) != dtype.numpy().itemsize:
        raise TypeError
    return np.frombuffer(data, dtype.numpy())[0].item()


def _path(*parts: Any) -> str:
    if not all(type(part) is str for part in parts):
        raise TypeError
    return "/".join(parts)


def _mapping(*arguments: Any) -> Attributes:
    return Attributes(arguments[-1]) if arguments and isinstance(arguments[-1], dict) else Attributes()


_OBJECTS = (
    "argparse Namespace",
    "types SimpleNamespace",
    "collections defaultdict",
    "collections Counter",
    "pytorch_lightning.utilities.parsing AttributeDict",
    "lightning.pytorch.utilities.parsing AttributeDict",
    "lightning_fabric.utilities.data AttributeDict",
    "lightning.fabric.utilities.data AttributeDict",
    "omegaconf.dictconfig DictConfig",
    "omegaconf.listconfig ListConfig",
    "omegaconf.base ContainerMetadata",
    "omegaconf.base Metadata",
    "omegaconf.nodes AnyNode",
    "yacs.config CfgNode",
    "fvcore.common.config CfgNode",
    "easydict EasyDict",
    "addict.addict Dict",
)
_PATHS = [f"{module} {kind}" for module in ("pathlib", "pathlib._local") for kind in ("PosixPath", "WindowsPath")]
# Named, and never called: as what a dictionary's missing items are, or as a key.
_NAMES = (
    *(f"{module} {kind}" for module in ("builtins", "__builtin__") for kind in ("list", "dict", "int", "float", "str")),
    "typing Any",
    "numpy ndarray",
    "pytorch_lightning.callbacks.model_checkpoint ModelCheckpoint",
    "pytorch_lightning.callbacks.early_stopping EarlyStopping",
)

WEIGHTS: Globals = {
    **STATE_DICT,
    **{name: Function(_mapping) for name in _OBJECTS},
    **{name: Function(_path) for name in _PATHS},
    **{name: name for name in _NAMES},
    "__builtin__ bytes": Function(lambda: b""),
    "builtins bytes": Function(lambda: b""),
    "numpy dtype": Function(_dtype),
    **{
        f"numpy.{core}.multiarray {name}": Function(make)
        for core in ("core", "_core")
        for name, make in (("scalar", _scalar), ("_reconstruct", lambda *_: Array()))
    },
}
"""What the files that people publish name."""
