"""What is wrong with a command line, in one sentence each: what, where, what to do."""

from collections.abc import Iterable, Sequence
from typing import get_args

from cyclopts import CoercionError, CycloptsError, MissingArgumentError, UnknownOptionError, UnusedCliTokensError

from finetui.engine.text import similar

_KINDS: dict[object, str] = {float: "a number", int: "a whole number"}


def complaint(error: CycloptsError, commands: Iterable[str]) -> str:
    """Return what `error` says; `commands` are the names of all."""
    match error:
        case UnusedCliTokensError():
            return _unexpected(str((error.unused_tokens or [""])[0]), error.command_chain, commands)
        case MissingArgumentError():
            return _missing(error)
        case UnknownOptionError():
            known = [name for argument in error.argument_collection for name in argument.names]
            return _untaken(error.token.keyword or error.token.value, error.command_chain, known)
        case CoercionError():
            return _invalid(error)
    return " ".join(str(error).split())


def _unexpected(word: str, command: Sequence[str] | None, commands: Iterable[str]) -> str:
    if command:
        return _untaken(repr(word), command, ())
    close = similar(word, commands, most=1)
    hint = f"did you mean {close[0]}?" if close else "`finetui --help` lists all"
    return f"there is no command {word!r}; {hint}"


def _untaken(word: str, command: Sequence[str] | None, options: Iterable[str]) -> str:
    """Return that a command does not take `word`; and which of its `options` may be meant."""
    close = similar(word, options, most=1)
    hint = f"did you mean {close[0]}?" if close else f"see {' '.join(('finetui', *(command or ())))} --help"
    return f"{' '.join(command or ('finetui',))} does not take {word}; {hint}"


def _missing(error: MissingArgumentError) -> str:
    """Return what a command lacks: a whole argument, or the value of an option that was given without one."""
    command = " ".join(("finetui", *(error.command_chain or ())))
    if error.argument is None:
        return " ".join(str(error).split())
    name = error.argument.name
    given = [token.keyword for token in error.argument.tokens if token.keyword is not None]
    if error.keyword is not None or given:
        return f"{error.keyword or given[-1]} needs a value; see {command} --help"
    wrong = similar(name, [word for word in map(str, error.unused_tokens or ()) if word.startswith("-")], most=1)
    hint = f"is {wrong[0]} a typo?" if wrong and name.startswith("-") else f"see {command} --help"
    return f"{' '.join(error.command_chain or ('finetui',))}: {name} is missing; {hint}"


def _invalid(error: CoercionError) -> str:
    """Return that a value is none of those that can be chosen, or what else is wrong with it."""
    if error.token is None:
        return " ".join(str(error).split())
    name = error.token.keyword or (error.argument.name if error.argument is not None else "")
    if error.msg is not None:
        return f"{name}: {error.msg}"
    value, choices = error.token.value, _choices(error.target_type)
    if error.target_type in _KINDS:
        return f"{name}: {value!r} is not {_KINDS[error.target_type]}"
    if not choices:
        return " ".join(str(error).split())
    close = similar(value, choices, most=1)
    return f"{name}: {value!r} is not one of {', '.join(choices)}{f'; did you mean {close[0]!r}?' if close else ''}"


def _choices(kind: object) -> list[str]:
    """Return the texts that `kind`, a type, is a choice of; none where it is something else."""
    found: list[str] = []
    for one in get_args(kind):
        found += [one] if isinstance(one, str) else _choices(one)
    return found
