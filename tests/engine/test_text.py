import unicodedata

from hypothesis import given, strategies as st

from finetui.engine.text import clean, snake_case


@given(st.text(max_size=300))
def test_nothing_that_a_terminal_obeys_is_left(text: str) -> None:
    cleaned = clean(text)
    assert len(cleaned) <= 200
    assert not {unicodedata.category(char) for char in cleaned} & {"Cc", "Cf", "Cs", "Co", "Zl", "Zp"} - {"So"}


def test_an_escape_sequence_becomes_text() -> None:
    assert clean("a\x1b]52;c;x\x07b\u202ec\u200bd\x9b2J") == "a�]52;c;x�b�c�d�2J"


def test_ordinary_text_of_any_script_stays() -> None:
    assert clean("T-shirt/top 数字 [bold] naïve 🙂") == "T-shirt/top 数字 [bold] naïve 🙂"


def test_a_long_text_is_cut() -> None:
    assert clean("x" * 10_000, 10) == "x" * 9 + "…"


def test_snake_case() -> None:
    assert snake_case("LearningRateChanged") == "learning_rate_changed"
