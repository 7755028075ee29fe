"""What is typed, clicked and pasted: Textual's parser, for input that may be anything."""

import sys
import time
from collections.abc import Callable, Iterable, Iterator

from textual import events
from textual._xterm_parser import XTermParser
from textual.message import Message

_PASTE, _PASTE_END = "\x1b[200~", "\x1b[201~"
_ESCAPE_SECONDS = 1.0  # of silence after an Escape in a paste: until then it may be the beginning of the paste's end


class TerminalInput:
    """Turns the text that a terminal sends into messages.

    Textual's parser ends for good at a key whose number is none, takes the report of a size from a pasted text for the
    terminal's own, which changes where clicks go, and swallows everything after a paste whose end was lost. Here the
    first is left out, `believes(report)` decides about the second, and a lone Escape gives up the third.
    """

    def __init__(self, believes: Callable[[events.Resize], bool], *, debug: bool = False) -> None:
        self._believes = believes
        self._debug = debug
        self._parser = XTermParser(debug)
        self._recent = ""
        self._paste: list[str] | None = None  # its characters, while one lasts
        self._heard_at = 0.0

    def feed(self, text: str) -> Iterator[Message]:
        """Yield what `text` means, with what came before it."""
        # By characters, so that a mistake costs no more than the sequence that it is in.
        for character in text:
            if self._paste is not None:
                yield from self._pasted(self._paste, character)
                continue
            yield from self._checked(self._parser.feed(character))
            self._recent = (self._recent + character)[-len(_PASTE) :]
            if self._recent == _PASTE:
                self._paste = []
        self._heard_at = time.monotonic()

    def tick(self) -> Iterator[Message]:
        """Yield what it means that nothing more has come for a moment."""
        if self._paste is None:
            yield from self._checked(self._parser.tick())
        elif self._paste[-1:] == ["\x1b"] and time.monotonic() - self._heard_at > _ESCAPE_SECONDS:
            self._end_paste()

    def _pasted(self, paste: list[str], character: str) -> Iterator[Message]:
        paste.append(character)
        if character == _PASTE_END[-1] and "".join(paste[-len(_PASTE_END) :]) == _PASTE_END:
            self._end_paste()
            # A NUL is no text, and some widgets would end at it.
            yield events.Paste("".join(paste[: -len(_PASTE_END)]).replace("\x00", ""))

    def _end_paste(self) -> None:
        """Tell Textual's parser, too, which knows of the beginning alone and so would give an empty text."""
        for _ in self._parser.feed(_PASTE_END):
            pass
        self._paste, self._recent = None, ""

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
            print(f"invalid input: {type(error).__name__}: {error}", file=sys.__stderr__)
            self._parser = XTermParser(self._debug)
            self._parser.mouse_pixels, self._parser.terminal_size, self._parser.terminal_pixel_size = mouse


def _is_no_character(character: str | None) -> bool:
    """Whether it is half of a surrogate pair, which cannot be shown or written anywhere."""
    return character is not None and any("\ud800" <= part <= "\udfff" for part in character)
