"""Code that a run or checkpoint names: it is run only where the person names it, too."""

from finetui.engine.errors import BadInput
from finetui.engine.protocol.config import RunConfig, is_factory


def check_trusted(found: str, name: str, option: str, given: str | None) -> None:
    """Raise `BadInput` when `name` is a person's own code and not what was `given` as `option`.

    A run or a checkpoint may come from anywhere: that it names a file must not be enough to run that file. `found`
    says where the name was found, as in "the run uses".
    """
    if is_factory(name) and name != given:
        raise BadInput(f"{found} the code {name}; if you trust that code, name it: {option} {name}")


def check_run_trusted(config: RunConfig, *, model: str | None, data: str | None) -> None:
    """Raise `BadInput` when the run of `config` uses a person's own code that is not named as `model` and `data`."""
    check_trusted("the run uses", config.model.name, "--model", model)
    check_trusted("the run uses", config.data.name, "--data", data)
