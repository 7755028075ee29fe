"""Where the ranks of a run meet: the store of torchrun, or of rank 0, without what an earlier attempt has left."""

import secrets
import time
from datetime import timedelta

import msgspec
from torch.distributed import PrefixStore, TCPStore  # type: ignore[attr-defined]  # public, and not in __all__
from torch.distributed.rendezvous import rendezvous

from finetui.engine.distributed.rank_info import RankInfo
from finetui.engine.errors import FinetuiError, reason_of

RENDEZVOUS_SECONDS = 600.0
_POLL_SECONDS = 0.05
_HERE, _WELCOME, _SEEN = "finetui/here/", "finetui/welcome", "finetui/seen/"
_attempt = ""  # what all ranks of this attempt agree on, once they have met


class _Welcome(msgspec.Struct, frozen=True):
    """What rank 0 says: the name of this attempt, and whom it welcomes, by rank: each one's own word."""

    attempt: str
    words: list[str]


_decoder = msgspec.json.Decoder(_Welcome)


def rendezvous_store(info: RankInfo, seconds: float = RENDEZVOUS_SECONDS) -> PrefixStore:
    """Return a connection of its own to the store where the ranks meet, in this attempt.

    torchrun keeps one store for all attempts: who comes back after a restart would find the addresses of processes that
    are gone. Raises `FinetuiError` where the others do not come within so many `seconds`.
    """
    global _attempt
    try:
        store: TCPStore = next(rendezvous("env://", timeout=timedelta(seconds=seconds)))[0]
        if not _attempt:
            agree = _welcome if info.is_first else _be_welcomed
            _attempt = agree(store, info, time.monotonic() + seconds)
    except (RuntimeError, ValueError) as error:
        raise FinetuiError(f"the {info.world} ranks could not connect: {reason_of(error)}") from error
    return PrefixStore(_attempt, store)


def _welcome(store: TCPStore, info: RankInfo, deadline: float) -> str:
    attempt = secrets.token_hex(8)
    others = range(1, info.world)
    while True:
        words = [_read(store, f"{_HERE}{rank}") for rank in others]
        store.set(_WELCOME, msgspec.json.encode(_Welcome(attempt, words)).decode())
        missing = [rank for rank in others if _read(store, f"{_SEEN}{rank}") != attempt]
        if not missing:
            return attempt
        if time.monotonic() > deadline:
            some = ", ".join(map(str, missing[:10]))
            raise FinetuiError(f"{len(missing)} of {info.world} ranks did not connect: {some}")
        time.sleep(_POLL_SECONDS)


def _be_welcomed(store: TCPStore, info: RankInfo, deadline: float) -> str:
    word = secrets.token_hex(4)
    store.set(f"{_HERE}{info.rank}", word)
    while True:
        found = _read(store, _WELCOME)
        welcome = _decoder.decode(found) if found else None
        if welcome is not None and len(welcome.words) >= info.rank and welcome.words[info.rank - 1] == word:
            store.set(f"{_SEEN}{info.rank}", welcome.attempt)
            return welcome.attempt
        if time.monotonic() > deadline:
            raise FinetuiError("rank 0 did not connect")
        time.sleep(_POLL_SECONDS)


def _read(store: TCPStore, key: str) -> str:
    return store.get(key).decode() if store.check([key]) else ""
