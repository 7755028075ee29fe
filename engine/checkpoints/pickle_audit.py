"""What a pickle of torch's describes, found out without building it: no class is looked up and nothing is called.

An interpreter of the instructions that torch reads with `weights_only=True`, on stand-ins. It bounds what a small file
can grow to, which torch does not. Needs no torch.
"""

import io
import pickletools
from collections.abc import Callable, Mapping, Sized
from dataclasses import dataclass, field
from typing import Any

# What may be read of any file, and how much more for its size: 500 tensors take 60 KB and 20 000 units of work. A unit
# (an instruction, a copied item) is up to 100 bytes of memory, a byte up to 4.
_MOST_BYTES, _MORE_BYTES = 8 << 20, 1 / 8
_MOST_WORK, _MORE_WORK = 500_000, 1 / 100
_CALL_WORK = 4  # units of a call: what it makes is larger than a number
_TEXT_WORK = 100  # characters that count as one instruction
_MOST_DIMENSIONS = 64  # torch's own limit


class ArchiveError(Exception):
    """Why a file is not read: it is damaged, or made to harm."""


def most_bytes(file_size: int) -> int:
    """Return how long the pickle may be, in bytes, that a file of `file_size` bytes holds."""
    return int(_MOST_BYTES + file_size * _MORE_BYTES)


class MoreThanTensors(ArchiveError):
    """The file names classes or functions, or uses instructions, that tensors under names do not need."""


@dataclass(frozen=True, slots=True)
class Dtype:
    """Stands for a dtype, or for a typed storage's class. `itemsize` in bytes."""

    name: str
    itemsize: int


@dataclass(frozen=True, slots=True)
class Storage:
    """Stands for a storage of `numel` elements, kept under `key`."""

    dtype: Dtype
    numel: int
    key: str = field(default="", compare=False)


@dataclass(frozen=True, slots=True)
class SymbolicTensor:
    """Stands for a tensor; `offset` and `stride`, in elements of its dtype, say where it is in the storage `key`."""

    dtype: Dtype
    shape: tuple[int, ...]
    key: str = field(default="", compare=False)
    offset: int = field(default=0, compare=False)
    stride: tuple[int, ...] = field(default=(), compare=False)


@dataclass(frozen=True, slots=True)
class Function:
    """Stands for a function or a class: `make` checks the arguments and returns a stand-in of the result."""

    make: Callable[..., Any]


class Ordered(dict[Any, Any]):
    """Stands for an OrderedDict."""


class Attributes(dict[Any, Any]):
    """Stands for an object that is nothing but its attributes and items."""

    def set_state(self, state: Any) -> None:
        """Take the attributes that pickle keeps of it."""
        for part in state if type(state) is tuple else (state,):
            if part is not None:
                if not isinstance(part, dict):
                    raise TypeError
                self.update({_key(name): value for name, value in part.items()})


Globals = Mapping[str, Any]  # "module name" -> what stands for it


class Machine:
    """Runs the pickle of one file, within limits."""

    def __init__(self, allowed: Globals, storage: Callable[..., Storage], file_size: int) -> None:
        """`storage` is called with a persistent id's items after the first; it checks them against the file."""
        self._allowed = allowed
        self._storage = storage
        self._work_left = _MOST_WORK + file_size * _MORE_WORK

    def run(self, file: io.BytesIO) -> Any:
        """Return what the pickle at the position of `file` describes. Raises `ArchiveError`."""
        self._stack: list[Any] = []
        self._marks: list[list[Any]] = []
        self._memo: dict[int, Any] = {}
        self._length = len(file.getbuffer())
        try:
            for opcode, argument, _ in pickletools.genops(file):
                self._count(1)
                if opcode.name == "STOP":
                    return self._stack.pop()
                step = _STEPS.get(opcode.name)
                if step is None:
                    raise MoreThanTensors(f"instruction {opcode.name}")
                step(self, argument)
        except (ValueError, IndexError, KeyError, TypeError) as error:
            raise ArchiveError("its pickle is damaged") from error
        raise ArchiveError("its pickle has no end")  # not reached: genops raises ValueError

    def _count(self, work: int) -> None:
        self._work_left -= work
        if self._work_left < 0:
            raise ArchiveError("it describes far more objects than a network has")

    # -- instructions: each takes the machine and the argument that is in the pickle ----------------------

    def _push(self, argument: Any) -> None:
        self._stack.append(argument)

    def _global(self, argument: str) -> None:
        if argument not in self._allowed:
            raise MoreThanTensors(argument.replace(" ", ".", 1))
        self._stack.append(self._allowed[argument])

    def _mark(self, _argument: None) -> None:
        self._marks.append(self._stack)
        self._stack = []

    def _to_mark(self) -> list[Any]:
        items = self._stack
        self._stack = self._marks.pop()
        return items

    def _tuple(self, _argument: None) -> None:
        items = self._to_mark()
        self._stack.append(tuple(items))

    def _last_to_tuple(self, count: int) -> None:
        if len(self._stack) < count:
            raise IndexError
        self._stack[-count:] = [tuple(self._stack[-count:])]

    def _append(self, items: list[Any]) -> None:
        target = self._stack[-1]
        if type(target) is not list:
            raise TypeError
        target.extend(items)

    def _set_items(self, items: list[Any]) -> None:
        target = self._stack[-1]
        if type(target) not in (dict, Ordered, Attributes) or len(items) % 2:
            raise TypeError
        for key, value in zip(items[::2], items[1::2], strict=True):
            target[_key(key)] = value

    def _get(self, index: int) -> None:
        self._stack.append(self._memo[index])

    def _put(self, index: int) -> None:
        if index > self._length:  # a list that is as long as the highest number is what some readers keep these in
            raise ArchiveError("its pickle refers beyond its own length")
        self._memo[index] = self._stack[-1]

    def _persistent_id(self, _argument: None) -> None:
        match self._stack.pop():
            case ("storage", *rest):
                self._stack.append(self._storage(*rest))
            case _:
                raise MoreThanTensors("something stored outside the file")

    def _call(self, _argument: None) -> None:
        arguments = self._stack.pop()
        function = self._stack.pop()
        if type(function) is not Function or type(arguments) is not tuple:
            raise MoreThanTensors("a call of something that is not a function")
        self._count(_CALL_WORK)
        for argument in arguments:
            if type(argument) is str:
                self._count(len(argument) // _TEXT_WORK)
            elif isinstance(argument, Sized):
                self._count(len(argument))
        self._stack.append(function.make(*arguments))

    def _build(self, _argument: None) -> None:
        state = self._stack.pop()
        target = self._stack.pop()
        match target, state:
            case Ordered(), dict():  # attributes: a state dict's _metadata
                self._count(len(state))
                self._stack.append(target)
            case object(set_state=set_state), _:  # only what stands for an object has it
                self._count(len(state) if isinstance(state, Sized) else 1)
                set_state(state)
                self._stack.append(target)
            case _:
                raise MoreThanTensors("an object with a state")


_STEPS: dict[str, Callable[[Machine, Any], None]] = {
    "PROTO": lambda _machine, _argument: None,
    "NONE": lambda machine, _: machine._push(None),
    "NEWTRUE": lambda machine, _: machine._push(True),
    "NEWFALSE": lambda machine, _: machine._push(False),
    "EMPTY_TUPLE": lambda machine, _: machine._push(()),
    "EMPTY_LIST": lambda machine, _: machine._push([]),
    "EMPTY_DICT": lambda machine, _: machine._push({}),
    "MARK": Machine._mark,
    "TUPLE": Machine._tuple,
    "TUPLE1": lambda machine, _: machine._last_to_tuple(1),
    "TUPLE2": lambda machine, _: machine._last_to_tuple(2),
    "TUPLE3": lambda machine, _: machine._last_to_tuple(3),
    "APPEND": lambda machine, _: machine._append([machine._stack.pop()]),
    "APPENDS": lambda machine, _: machine._append(machine._to_mark()),
    "SETITEM": lambda machine, _: machine._set_items([machine._stack.pop(-2), machine._stack.pop()]),
    "SETITEMS": lambda machine, _: machine._set_items(machine._to_mark()),
    "GLOBAL": Machine._global,
    "REDUCE": Machine._call,
    "NEWOBJ": Machine._call,
    "BUILD": Machine._build,
    "BINPERSID": Machine._persistent_id,
}
for _name in ("BININT", "BININT1", "BININT2", "LONG1", "BINFLOAT", "BINUNICODE", "SHORT_BINSTRING"):
    _STEPS[_name] = Machine._push
for _name in ("BINGET", "LONG_BINGET"):
    _STEPS[_name] = Machine._get
for _name in ("BINPUT", "LONG_BINPUT"):
    _STEPS[_name] = Machine._put


# -- what stands for torch's classes and functions ----------------------------------------------------------


def _key(key: Any) -> Any:
    """Return a dictionary's key: what is quickly compared, unlike tuples of tuples of tuples."""
    if not _is_scalar(key) and not (type(key) is tuple and all(map(_is_scalar, key))):
        raise MoreThanTensors("a key that is neither a string nor a number")
    return key


def _is_scalar(value: Any) -> bool:
    return value is None or type(value) in (str, int, float, bool, bytes)


def _no_hooks(hooks: Any) -> None:
    if hooks:  # functions to be called; None or an empty OrderedDict is what torch writes
        raise MoreThanTensors("tensor hooks")


def _tensor(storage: Any, offset: Any, size: Any, stride: Any, dtype: Dtype | None = None) -> SymbolicTensor:
    """Stand in for a tensor that looks at `storage`. Raises `ArchiveError` unless all of it is in there."""
    numbers = (offset, *size, *stride)
    if type(storage) is not Storage or len(size) != len(stride) or len(size) > _MOST_DIMENSIONS:
        raise TypeError
    if any(type(number) is not int or number < 0 for number in numbers):
        raise TypeError
    dtype = dtype or storage.dtype
    have = storage.numel * storage.dtype.itemsize // dtype.itemsize
    count, last = 1, offset
    for length, step in zip(size, stride, strict=True):
        count *= length
        last += (length - 1) * step
    if count > have:
        raise ArchiveError("one of its tensors is larger than its storage")
    if offset > have or (count and last >= have):
        raise ArchiveError("one of its tensors reaches beyond its storage")
    return SymbolicTensor(dtype, tuple(size), storage.key, offset, tuple(stride))


def _tensor_v2(
    storage: Any, offset: Any, size: Any, stride: Any, requires_grad: Any, hooks: Any, *metadata: Any
) -> SymbolicTensor:
    if type(requires_grad) is not bool or any(metadata):
        raise MoreThanTensors("a tensor with more than numbers")
    _no_hooks(hooks)
    return _tensor(storage, offset, size, stride)


def _tensor_v3(
    storage: Any, offset: Any, size: Any, stride: Any, requires_grad: Any, hooks: Any, dtype: Any, *metadata: Any
) -> SymbolicTensor:
    if type(requires_grad) is not bool or any(metadata):
        raise MoreThanTensors("a tensor with more than numbers")
    _no_hooks(hooks)
    if type(dtype) is not Dtype:
        raise TypeError
    return _tensor(storage, offset, size, stride, dtype)


def _parameter(data: Any, requires_grad: Any = True, hooks: Any = None) -> SymbolicTensor:
    if type(data) is not SymbolicTensor or type(requires_grad) is not bool:
        raise TypeError
    _no_hooks(hooks)
    return data


def _set(items: Any) -> frozenset[Any]:
    if type(items) not in (list, tuple):
        raise TypeError
    if not all(map(_is_scalar, items)):
        raise MoreThanTensors("a set with more than strings and numbers")
    return frozenset(items)


def _size(items: Any) -> tuple[int, ...]:
    if type(items) not in (list, tuple) or not all(type(item) is int for item in items):
        raise TypeError
    return tuple(items)


def _bytes(text: Any, encoding: Any) -> bytes:
    if type(text) is not str or encoding != "latin1":
        raise MoreThanTensors("an encoded string")
    return text.encode("latin1")


def _device(kind: Any, *index: Any) -> None:
    if type(kind) is not str or any(type(number) is not int for number in index):
        raise TypeError


_STORAGES = {
    "Double": 8, "Float": 4, "Half": 2, "BFloat16": 2, "Long": 8, "Int": 4, "Short": 2, "Char": 1, "Byte": 1, "Bool": 1,
    "ComplexDouble": 16, "ComplexFloat": 8,
}  # fmt: skip
_DTYPES = {
    "float64": 8, "float32": 4, "float16": 2, "bfloat16": 2, "int64": 8, "int32": 4, "int16": 2, "int8": 1, "uint8": 1,
    "uint16": 2, "uint32": 4, "uint64": 8, "bool": 1, "complex128": 16, "complex64": 8, "float8_e4m3fn": 1,
    "float8_e4m3fnuz": 1, "float8_e5m2": 1, "float8_e5m2fnuz": 1, "float8_e8m0fnu": 1,
}  # fmt: skip

CHECKPOINT: Globals = {
    "collections OrderedDict": Function(lambda: Ordered()),
    "torch._utils _rebuild_tensor_v2": Function(_tensor_v2),
    "torch._utils _rebuild_tensor_v3": Function(_tensor_v3),
    "torch.storage UntypedStorage": Dtype("uint8", 1),
    **{f"torch {name}Storage": Dtype(name, size) for name, size in _STORAGES.items()},
    **{f"torch {name}": Dtype(name, size) for name, size in _DTYPES.items()},
}
"""What finetui's checkpoints name."""

STATE_DICT: Globals = {
    **CHECKPOINT,
    "torch._utils _rebuild_parameter": Function(_parameter),
    "torch Size": Function(_size),
    "torch device": Function(_device),
    "__builtin__ set": Function(_set),
    "builtins set": Function(_set),
    "_codecs encode": Function(_bytes),
}
"""What the files that people save weights in name."""
