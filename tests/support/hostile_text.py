"""Fifty strings that a terminal, or a widget, would obey or choke on."""

import unicodedata

HOSTILE: tuple[str, ...] = (
    # What Rich and Textual take for markup.
    "[/red]",
    "a[/]b",
    "[@click=app.quit]x[/]",
    "[bold red]x",
    "[link=file:///etc/passwd]x[/link]",
    "[[double]]",
    "[$accent]x[/$accent]",
    "\\[escaped\\]",
    "]unbalanced[",
    "[not a tag, 1, 2]",
    "{config} %s %(name)s {0}",
    ":skull: :warning:",
    # Escape sequences.
    "\x1b]0;title\x07",
    "\x1b]2;title\x1b\\",
    "\x1b]52;c;ZXZpbA==\x07",
    "\x1b]8;;http://evil.example\x1b\\link\x1b]8;;\x1b\\",
    "\x1b]9;notify\x07",
    "\x1b[2J\x1b[H",
    "\x1b[?1049l",
    "\x1b[?25h\x1b[?1003l",
    "\x1b[5;8mblinking",
    "\x1b[999;999Hx",
    "\x1bP$q\"p\x1b\\",
    "\x1b_Ga=T,f=100;AAAA\x1b\\",
    "\x1b^pm\x1b\\",
    "\x1bc",
    "\x1b[20t\x1b[6n\x1b[c",
    "trailing\x1b",
    "\x1b[",
    # C1 controls: the same without an escape byte.
    "\x9b2J",
    "\x9d52;c;ZXZpbA==\x9c",
    "\x90q\x9c",
    "a\x85b",
    # Other controls.
    "bell\x07\x07",
    "back\x08\x08\x08space",
    "new\nline",
    "return\rover",
    "tab\tulator\x0b\x0c",
    "shift\x0eout\x0f",
    "nul\x00byte",
    "del\x7fete",
    # Characters that turn, join or hide what is around them.
    "\u202egnp.exe",
    "\u2066isolated\u2069 \u200fright",
    "zero\u200bwidth\u200djoiner\ufeff",
    "line\u2028sep\u2029par",
    "hid\U000e0041\U000e0042den\ufe01\u3164",
    "combining" + "\u0301\u0327\u0489" * 60,
    # Width.
    "漢字かな混じり文" * 30,
    "👨‍👩‍👧‍👦🏳️‍🌈👍🏽🇩🇪1️⃣",
    "\ud800lone\udfff surrogate\udcff",
    "x" * 10_000,
    "  ",
    "",
)  # fmt: skip

_OBEYED = {"Cc", "Cf", "Cs", "Co", "Zl", "Zp"}


def obeyed(text: str) -> list[str]:
    """Return the characters in `text` that a terminal obeys, or that act on what is around them."""
    return [char for char in text if unicodedata.category(char) in _OBEYED]
