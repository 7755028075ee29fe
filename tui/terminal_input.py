"""What is typed, clicked and pasted: Textual's parser, for input that may be anything."""

import sys
from collections.abc import Callable, Iterable, Iterator

from textual import events
from textual._xterm_parser import XTermParser
from textual.message import Message


class TerminalInput:
    """Turns the text that a terminal sends into messages.

    Textual's parser ends for good at a key whose number is none, and takes the report of a size from a pasted text for
    the terminal's own, which changes where clicks go. Here the first is left out, and `believes(report)` decides about
    the second.
    """

    def __init__(self, believes: Callable[[events.Resize], bool], *, debug: bool = False) -> None:
        self._believes = believes
        self._debug = debug
        self._parser = XTermParser(debug)

    def feed(self, text: str) -> Iterator[Message]:
        """Yield what `text` means, with what came before it."""
        # By characters, so that a mistake costs no more than the sequence that it is in.
        for character in text:
            yield from self._checked(self._parser.feed(character))

    def tick(self) -> Iterator[Message]:
        """Yield what it means that nothing more has come for a moment."""
        yield from self._checked(self._parser.tick())

    def _checked(self, messages: Iterable[Message]) -> Iterator[Message]:
        parser = self._parser
        mouse = parser.mouse_pixels, parser.terminal_size, parser.terminal_pixel_size
        try:
            for message in messages:
                if isinstance(message, events.Resize) and not self._believes(message):
                    parser.mouse_pixels, parser.terminal_size, parser.terminal_pixel_size = mouse
                if not (isinstance(message, events.Key) and _is_no_character(message.character)):
                    yield message
        except (ValueError, ArithmeticError, LookupError) as error:
            print(f"input that is none: {type(error).__name__}: {error}", file=sys.__stderr__)
            self._parser = XTermParser(self._debug)
            self._parser.mouse_pixels, self._parser.terminal_size, self._parser.terminal_pixel_size = mouse


def _is_no_character(character: str | None) -> bool:
    """Whether it is half of a surrogate pair, which cannot be shown or written anywhere."""
    return character is not None and any("\ud800" <= part <= "\udfff" for part in character)
