"""What a terminal sends, as messages: also what is none, and what only looks as if it came from the terminal."""

import pytest
from textual import events
from textual.message import Message

from finetui.tui.terminal.input import TerminalInput


def heard(text: str, *, believes: bool = False) -> list[Message]:
    return list(TerminalInput(lambda _report: believes).feed(text))


def keys(text: str) -> list[str]:
    return [message.key for message in heard(text) if isinstance(message, events.Key)]


@pytest.mark.parametrize("text", ["\x1b[97;1:3u", "\x1b[1114112u", "\x1b[99999999999999999999999u"])
def test_a_key_whose_number_is_none_is_left_out_and_the_next_one_heard(text: str) -> None:
    assert keys(f"a{text}b") == ["a", "b"]


def test_half_a_character_is_none() -> None:
    assert keys("a\x1b[55296;1ub\x1b[57343;1u") == ["a", "b"]


def clicks(text: str, *, believes: bool) -> list[tuple[int, int]]:
    found = [message for message in heard(text, believes=believes) if isinstance(message, events.MouseDown)]
    return [(message.x, message.y) for message in found]


@pytest.mark.parametrize("report", ["\x1b[48;24;80;480;1600t", "\x1b[48;0;0;0;0t", "\x1b[48;99999;99999;1;1t"])
def test_a_pasted_report_of_the_size_does_not_change_where_clicks_go(report: str) -> None:
    click = "\x1b[<0;11;5M"
    assert clicks(click, believes=False) == [(10, 4)]
    assert clicks(f"\x1b[200~{report}\x1b[201~{click}", believes=False) == [(10, 4)]


def test_the_terminals_own_report_does() -> None:
    assert clicks("\x1b[48;24;80;480;1600t\x1b[<0;201;81M", believes=True) == [(10, 4)]


def test_a_sequence_may_come_in_parts_and_a_lone_escape_is_one(monkeypatch: pytest.MonkeyPatch) -> None:
    terminal_input = TerminalInput(lambda _report: False)
    assert list(terminal_input.feed("\x1b")) == []
    assert [message.key for message in terminal_input.feed("[A")] == ["up"]
    assert list(terminal_input.feed("\x1b")) == []
    later = 1e9
    monkeypatch.setattr("textual._parser.get_time", lambda: later)
    assert [message.key for message in terminal_input.tick()] == ["escape"]


def test_a_pasted_text_comes_whole_and_the_keys_after_it_are_keys() -> None:
    found = heard("a\x1b[200~one\x1b[A\ntwo\x00 \x1b[201\x1b[201~b")
    assert [message.text for message in found if isinstance(message, events.Paste)] == ["one\x1b[A\ntwo \x1b[201"]
    assert [message.key for message in found if isinstance(message, events.Key)] == ["a", "b"]


def test_an_empty_paste_is_one_too() -> None:
    found = heard("\x1b[200~\x1b[201~b")
    assert [type(message) for message in found] == [events.Paste, events.Key]


def test_a_lone_escape_gives_up_a_paste_whose_end_was_lost(monkeypatch: pytest.MonkeyPatch) -> None:
    terminal_input = TerminalInput(lambda _report: False)
    now = 0.0
    monkeypatch.setattr("finetui.tui.terminal.input.time.monotonic", lambda: now)
    assert list(terminal_input.feed("\x1b[200~half a text")) == []
    now = 60.0
    assert list(terminal_input.tick()) == []
    assert list(terminal_input.feed("q")) == []  # who knows whether it is a key, or the rest of the text
    assert list(terminal_input.feed("\x1b")) == []
    now = 60.5
    assert list(terminal_input.tick()) == []  # on a slow line the paste's end may come in two parts
    now = 62.0
    assert list(terminal_input.tick()) == []
    assert [message.key for message in terminal_input.feed("q")] == ["q"]


def test_the_end_of_a_paste_may_come_in_two_parts(monkeypatch: pytest.MonkeyPatch) -> None:
    terminal_input = TerminalInput(lambda _report: False)
    monkeypatch.setattr("textual._parser.get_time", lambda: 1e9)
    assert list(terminal_input.feed("\x1b[200~text\x1b")) == []
    assert list(terminal_input.tick()) == []
    (paste, key) = terminal_input.feed("[201~q")
    assert (paste.text, key.key) == ("text", "q")
