"""Where the state dict is in what people publish: under which keys, beside what else, averaged or not."""

import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from finetui.engine.errors import BadInput
from finetui.engine.models.transplant import is_averaged
from finetui.engine.text import clean

_DEEPEST = 4
# What state dicts are kept under, the likeliest first.
_KNOWN = (
    "state_dict", "model_state_dict", "model_state", "model", "net", "network", "params", "weights", "weight", "module",
    "net_state_dict", "model_weights", "student", "backbone", "encoder", "classifier",
)  # fmt: skip
_NO_WEIGHTS = re.compile(r"optim|sched|scaler|criterion|loss|metric|rng|callback|loop|history|args|param_groups|about")
_COUNTERS = {"n_averaged"}  # of torch's AveragedModel, beside the network
_MOST_KEYS = 6
_LONGEST_KEY = 60


@dataclass(frozen=True)
class Found:
    """The tensors of a state dict by their names, and what a person should know about where they were."""

    tensors: dict[str, Any]
    notices: tuple[str, ...] = ()


def find_state_dict(content: object, is_tensor: Callable[[object], bool], where: str) -> Found:
    """Return the state dict in the `content` of the file `where`.

    Of weights and their moving average the average is taken, as timm does by default and as who publishes both means
    it. Raises `BadInput`, with the keys that are there, when there is none or it could be one of several.
    """
    search = _Search(is_tensor, where)
    found = search.within(content)
    if found is not None:
        return Found(found, tuple(search.notices))
    if isinstance(content, (list, tuple)) and content and all(map(is_tensor, content)):
        raise BadInput(
            f"the weights file {where} holds a list of {len(content)} tensors without names; save the network's "
            "state_dict(), which has them"
        )
    if is_tensor(content):
        raise BadInput(f"the weights file {where} holds a single tensor; save the network's state_dict()")
    keys = f"; it has {listed(content)}" if isinstance(content, Mapping) and content else ""
    raise BadInput(f"the weights file {where} holds no named tensors; save the network's state_dict(){keys}")


class _Search:
    def __init__(self, is_tensor: Callable[[object], bool], where: str) -> None:
        self.notices: list[str] = []
        self._is_tensor = is_tensor
        self._where = where
        self._seen: dict[int, bool] = {}  # whether a mapping, by its id, holds tensors: one can hold itself

    def within(self, content: object, depth: int = 0) -> dict[str, Any] | None:
        """Return the tensors of the state dict in `content`, None if there is none. Raises `BadInput`."""
        if not isinstance(content, Mapping) or depth > _DEEPEST:
            return None
        inner = {key: value for key, value in content.items() if isinstance(key, str) and self._holds(value, depth + 1)}
        own = {
            name: value
            for name, value in content.items()
            if isinstance(name, str) and name not in _COUNTERS and self._is_tensor(value)
        }
        key = self._choose(inner, bool(own))
        return self.within(inner[key], depth + 1) if key is not None else own or None

    def _choose(self, inner: Mapping[str, object], has_own: bool) -> str | None:
        averaged = [key for key in inner if is_averaged(key)]
        plain = [key for key in _KNOWN if key in inner]
        if averaged:
            if plain or len(averaged) < len(inner):
                beside = next(iter(plain), None) or next(key for key in inner if key not in averaged)
                self.notices.append(
                    f"{clean(self._where)}: of {clean(beside)} and {clean(averaged[0])}, the averaged weights "
                    f"({clean(averaged[0])}) are used, as in timm"
                )
            return averaged[0]
        if plain:
            return plain[0]
        others = [key for key in inner if not _NO_WEIGHTS.search(key.lower())]
        if has_own or not others:
            return None
        if len(others) > 1:
            raise BadInput(
                f"the weights file {self._where} holds tensors under several keys ({listed(others)}); save the "
                "state_dict() that you want in a file of its own"
            )
        return others[0]

    def _holds(self, content: object, depth: int) -> bool:
        if not isinstance(content, Mapping) or depth > _DEEPEST:
            return False
        known = self._seen.get(id(content))
        if known is None:
            self._seen[id(content)] = False
            known = any(
                isinstance(key, str)
                and key not in _COUNTERS
                and (self._is_tensor(value) or self._holds(value, depth + 1))
                for key, value in content.items()
            )
            self._seen[id(content)] = known
        return known


def listed(keys: Iterable[object]) -> str:
    """Return how many `keys` there are, and the first ones, for people."""
    names = [clean(str(key), _LONGEST_KEY) for key in keys]
    shown = ", ".join(names[:_MOST_KEYS])
    more = f" and {len(names) - _MOST_KEYS} more" if len(names) > _MOST_KEYS else ""
    return f"{len(names)} key{'' if len(names) == 1 else 's'}: {shown}{more}"
