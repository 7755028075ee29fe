"""What the Train screen asks of the program."""

from pathlib import Path

from textual.message import Message

from finetui.engine.protocol.commands import ChangeTraining, FinetunePlan


class ResumeWanted(Message):
    """Somebody wants the run in the folder `path`, which has no engine, to go on, by `other` settings if there are any.

    With `own` the engine was started here, with whatever code of a person's own it runs.
    """

    def __init__(self, path: Path, *, own: bool, other: ChangeTraining | None = None) -> None:
        super().__init__()
        self.path, self.own, self.other = path, own, other


class FinetuneWanted(Message):
    """Somebody wants a finetune, by `plan`, of the run in the folder `path`, which has no engine here.

    `own` as in `ResumeWanted`.
    """

    def __init__(self, path: Path, *, own: bool, plan: FinetunePlan) -> None:
        super().__init__()
        self.path, self.own, self.plan = path, own, plan
