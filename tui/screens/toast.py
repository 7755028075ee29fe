"""What the program has to say about what somebody did; the app shows it over whatever screen is in front."""

from textual.message import Message

from finetui.tui.keys import KEYS


class ShowToast(Message):
    """`text` is a sentence; post it to the app, since a screen that is being left hears nothing any more.

    It takes the place of an earlier one of the same `kind`. While it is shown, the key Copy copies `copies`. `warns`
    where something was not done.
    """

    def __init__(self, text: str, kind: str = "", *, copies: str = "", warns: bool = False) -> None:
        super().__init__()
        self.text = text
        self.kind = kind
        self.copies = copies
        self.warns = warns

    @classmethod
    def to_copy(cls, command: str) -> "ShowToast":
        """Return one with the shell `command` that does what cannot be done here; the key Copy copies it."""
        return cls(f"{command} · {KEYS['copy'].shown} copy", "refusal", copies=command)
