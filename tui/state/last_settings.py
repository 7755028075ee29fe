"""What somebody trained with last, kept for the next first screen in a file of the user's state folder."""

from pathlib import Path

import msgspec
import platformdirs

from finetui.engine import files
from finetui.engine.errors import BadInput
from finetui.engine.protocol.config import TRAINING_RECIPES, DataConfig, ModelConfig, RunConfig, with_overrides


class LastSettings(msgspec.Struct, frozen=True, kw_only=True):
    """The settings that the first screen asks for; `folder` is where a named data set is looked for first."""

    data: str = "mnist"
    folder: str | None = None
    model: str = "lenet"
    recipe: str = "default"
    epochs: int | None = None
    lr: float | None = None
    batch_size: int | None = None

    def to_config(self, base: RunConfig) -> RunConfig:
        """Return `base` with these settings; what is None is the recipe's. Raises `BadInput`."""
        if self.recipe not in TRAINING_RECIPES:
            raise BadInput(f"recipe: {self.recipe!r} is not one of {', '.join(TRAINING_RECIPES)}")
        config = with_overrides(
            base, {("training", name): value for name, value in TRAINING_RECIPES[self.recipe].items()}
        )
        config = msgspec.structs.replace(
            config,
            data=msgspec.structs.replace(config.data, name=self.data, dir=self.folder or config.data.dir),
            model=msgspec.structs.replace(config.model, name=self.model),
        )
        return with_overrides(
            config,
            {
                ("training", "epochs"): self.epochs,
                ("training", "lr"): self.lr,
                ("training", "batch_size"): self.batch_size,
            },
        )


def settings_file() -> Path:
    """Return the file that they are kept in."""
    return platformdirs.user_state_path("finetui", appauthor=False) / "last-settings.json"


def read_last() -> tuple[LastSettings, str]:
    """Return the last settings, and why they could not be read (empty: they could, or there are none)."""
    path = settings_file()
    try:
        found = msgspec.json.decode(path.read_bytes(), type=LastSettings)
        found.to_config(RunConfig(data=DataConfig(), model=ModelConfig()))
    except FileNotFoundError:
        return LastSettings(), ""
    except (OSError, msgspec.MsgspecError, BadInput, UnicodeDecodeError):
        return LastSettings(), "The last settings could not be read; these are the defaults."
    return found, ""


def keep_last(settings: LastSettings) -> None:
    """Keep `settings` for the next time. Raises OSError."""
    path = settings_file()
    path.parent.mkdir(parents=True, exist_ok=True)
    with files.replacing(path, synced=False) as file:
        file.write(msgspec.json.encode(settings))
