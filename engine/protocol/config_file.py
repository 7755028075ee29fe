"""A run's configuration as a TOML file: written, and read back with every problem named."""

import tomllib
from pathlib import Path

import msgspec
import tomli_w

from finetui.engine.errors import BadInput, reason_of
from finetui.engine.protocol.config import RunConfig


def to_toml(config: RunConfig) -> str:
    """Return `config` as TOML text that `load` reads back to an equal value."""
    sections = msgspec.to_builtins(config)
    present = {
        name: {field: value for field, value in section.items() if value is not None}
        for name, section in sections.items()
        if section is not None
    }
    return tomli_w.dumps(present)


def load(path: Path) -> RunConfig:
    """Read a `RunConfig` from the TOML file at `path`.

    Raises `BadInput` that names the file, and the field, when it cannot be read or is not valid.
    """
    where = str(path)
    try:
        table = tomllib.loads(path.read_text(encoding="utf-8"))
        return msgspec.convert(table, RunConfig)
    except OSError as error:
        raise BadInput(f"the configuration {where} cannot be read: {reason_of(error)}") from error
    except (tomllib.TOMLDecodeError, UnicodeDecodeError, RecursionError) as error:
        raise BadInput(f"the configuration {where} is not TOML: {reason_of(error)}") from error
    except msgspec.ValidationError as error:
        problem = reason_of(error).replace("`$.", "`")
        raise BadInput(f"the configuration {where} is not valid: {problem}") from error
    except BadInput as error:
        raise BadInput(f"the configuration {where} is not valid: {error}") from error
