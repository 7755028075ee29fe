"""Which image is meant: a number, with a step to either side."""

from typing import ClassVar

from textual import events
from textual.app import ComposeResult
from textual.binding import BindingType
from textual.containers import Horizontal
from textual.message import Message
from textual.widgets import Input, Label

from finetui.engine.errors import BadInput
from finetui.tui.keys import bind
from finetui.tui.screens.toast import ShowToast
from finetui.tui.state.parse_numbers import whole
from finetui.tui.widgets.action_button import ActionButton
from finetui.tui.widgets.compound import Compound
from finetui.tui.widgets.text_field import TextField


class _Number(TextField):
    BINDINGS: ClassVar[list[BindingType]] = [bind("back", "leave", show=False)]

    def __init__(self) -> None:
        super().__init__("0", id="image-number", max_length=20)

    def action_leave(self) -> None:
        """Go back to the keys of the screen."""
        self.post_message(ImageChooser.Left())

    def on_blur(self, _event: events.Blur) -> None:
        """Drop what was typed and not submitted."""
        self.post_message(ImageChooser.Left())


class ImageChooser(Compound, Horizontal):
    """Shows the number of an image; it can be typed, or changed by one."""

    DEFAULT_CSS = """
    ImageChooser {
        width: auto;
        height: 1;
        Label { width: 6; color: $muted; }
        Input { width: 6; background: $field; }
        Input:focus { background: $field-focus; }
        ActionButton { width: 5; min-width: 5; margin-left: 1; }
    }
    """

    class Stepped(Message):
        """Somebody wants the next (`by` 1) or the previous (-1) image."""

        def __init__(self, by: int) -> None:
            super().__init__()
            self.by = by

    class Typed(Message):
        """Somebody wants the image with this number; -1 where nothing was typed."""

        def __init__(self, index: int) -> None:
            super().__init__()
            self.index = index

    class Left(Message):
        """The field was left; the keys belong to the screen again."""

    def __init__(self) -> None:
        super().__init__(id="image-chooser")
        self._index = 0

    def compose(self) -> ComposeResult:
        """A word, the number, and two buttons."""
        yield Label("test", id="image-part")
        yield _Number()
        yield ActionButton("previous", ",", "‹")
        yield ActionButton("next", ".", "›")

    def show(self, index: int) -> None:
        """Show that `index` is meant."""
        self._index = index
        self.query_one(_Number).value = str(index)

    def name_part(self, part: str) -> None:
        """Say of which part it is."""
        self.query_one("#image-part", Label).update(part)

    def type(self) -> None:
        """Let a number be typed."""
        self.query_one(_Number).focus()

    def on_image_chooser_left(self) -> None:
        """Put the number that holds back into the field."""
        self.show(self._index)

    def on_input_submitted(self, message: Input.Submitted) -> None:
        """Ask for the image that was typed, or say that it is no number."""
        message.stop()
        try:
            self.post_message(self.Typed(whole(message.value, "image") if message.value else -1))
        except BadInput as error:
            self.app.post_message(ShowToast(str(error), "refusal", warns=True))

    def on_action_button_pressed(self, message: ActionButton.Pressed) -> None:
        """Ask for the image beside."""
        message.stop()
        self.post_message(self.Stepped(1 if message.action == "next" else -1))
