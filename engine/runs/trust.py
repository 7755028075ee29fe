"""Code that a run or checkpoint names: it is run only where the person names it, too."""

from finetui.engine.errors import BadInput
from finetui.engine.protocol.config import RunConfig, is_factory
from finetui.engine.protocol.paths import absolute_code, code_file, is_code, same_code


def check_trusted(found: str, name: str, option: str, given: str | None) -> str:
    """Return the code that `name` means; raise `BadInput` when it is a person's own, and not what was `given`.

    A run or a checkpoint may come from anywhere: that it names a file must not be enough to run that file. Where that
    file is not there, one of the same name with the same factory takes its place, if it was `given` as `option`.
    `found` says where the name was found, as in "the run uses".
    """
    if not is_factory(name) or name == given:
        return name
    if given is not None and is_factory(given):
        if same_code(name, given):
            return absolute_code(given)
        alike = code_file(name).name == code_file(given).name and name.rpartition(":")[2] == given.rpartition(":")[2]
        if alike and not code_file(name).exists():
            return absolute_code(given)
    raise BadInput(f"{found} the code {name}; if you trust it, pass it: {option} {name}")


def check_trusted_data(found: str, name: str, given: str | None) -> str:
    """Do as `check_trusted` for the name of data: that of a folder is no code, whatever it looks like."""
    return check_trusted(found, name, "--data", given) if is_code(name) else name


def check_run_trusted(config: RunConfig, *, model: str | None, data: str | None) -> None:
    """Raise `BadInput` when the run of `config` uses a person's own code that is not named as `model` and `data`."""
    check_trusted("the run uses", config.model.name, "--model", model)
    check_trusted_data("the run uses", config.data.name, data)
