"""The learning rate on the Train screen: typed, nudged, refused in words."""

import pytest
from canned import CannedLink, point, running
from pilot import open_app, picture

from finetui.tui.app.app import FinetuiApp
from finetui.tui.screens.train.controls import LearningRateInput, next_rate


async def test_the_learning_rate_is_typed_and_nudged() -> None:
    link = CannedLink(*running(point(10)))
    app = FinetuiApp(link)
    async with open_app(app, size=(80, 24)) as pilot:
        await pilot.settle()
        await pilot.press("plus", "minus")
        await pilot.press("l", *"0.03", "enter")
        assert [sent.value for sent in link.sent] == [0.002, 0.0005, 0.03]
        assert app.focused is None


@pytest.mark.parametrize(
    ("typed", "why"),
    [
        ("0", "a positive number"),
        ("-1", "a positive number"),
        ("1e", "'1e' is not a number"),
        ("0.5abc", "'0.5abc' is not a number"),
        ("", "type a number"),
        ("nan", "'nan' is not a number"),
        ("1e999", "'1e999' is not a number"),
    ],
)
async def test_a_learning_rate_that_is_none_is_refused_in_words(typed: str, why: str) -> None:
    link = CannedLink(*running(point(10)))
    app = FinetuiApp(link)
    async with open_app(app, size=(120, 40)) as pilot:
        await pilot.settle()
        await pilot.press("l", "delete", *typed, "enter")
        assert why in picture(app)
        assert app.screen.query_one(LearningRateInput).value == typed
        await pilot.press("escape")
        assert app.screen.query_one(LearningRateInput).value == "0.001"
    assert link.sent == []


async def test_a_click_into_the_learning_rate_selects_all_of_it() -> None:
    link = CannedLink(*running(point(10, lr=0.00299867)))
    app = FinetuiApp(link)
    async with open_app(app, size=(80, 24)) as pilot:
        await pilot.settle()
        field = app.screen.query_one(LearningRateInput)
        assert field.value == "0.003"
        await pilot.click(field, offset=(3, 0))
        assert field.selected_text == "0.003"
        await pilot.press("enter")  # as it was: nothing is changed
        await pilot.click(field, offset=(3, 0))
        await pilot.press(*"0.02")
        await pilot.click(field, offset=(4, 0))
        await pilot.press("5", "enter")
    assert [sent.value for sent in link.sent] == [0.025]


def test_the_ladder_of_learning_rates() -> None:
    assert [next_rate(0.001, 1), next_rate(0.002, 1), next_rate(0.005, 1)] == [0.002, 0.005, 0.01]
    assert [next_rate(0.001, -1), next_rate(0.0123, -1), next_rate(0.0123, 1)] == [0.0005, 0.01, 0.02]
    assert next_rate(1e-9, -1) == 1e-9
