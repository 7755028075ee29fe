"""Numbers that a person typed, and how rates are written."""

import pytest

from finetui.engine.errors import BadInput
from finetui.tui.state.numbers import factor, rate
from finetui.tui.state.parse_numbers import number, whole


def test_numbers_are_taken_as_they_are_typed() -> None:
    assert [number(text, "lr") for text in ("0.5", "3e-4", " 7 ", "-1")] == [0.5, 3e-4, 7.0, -1.0]
    assert [whole(text, "epochs") for text in ("12", "1e3")] == [12, 1000]


@pytest.mark.parametrize("text", ["0.5abc", "", "1e", "nan", "inf", "1e999", "0,5", "--"])
def test_what_is_no_number_is_refused_by_what_it_was_to_be(text: str) -> None:
    for read in (number, whole):
        with pytest.raises(BadInput, match="^lr: .*number"):
            read(text, "lr")


def test_a_share_is_no_whole_number() -> None:
    with pytest.raises(BadInput, match="epochs: '1.5' is not a whole number"):
        whole("1.5", "epochs")


def test_a_rate_has_three_digits() -> None:
    values = (0.003, 0.00287992, 4.25042e-05, 1e-12, 0.1, 1.0, 12.5)
    assert [rate(value) for value in values] == ["0.003", "0.00288", "4.25e-5", "1e-12", "0.1", "1", "12.5"]
    assert factor(5 / 3) == "x1.67"
