"""The classes on Train: worst first, what they are mistaken for, and what there is room for."""

import msgspec
import pytest
from canned import CannedLink, evaluated, running
from pilot import open_app, picture

from finetui.engine.protocol.events import AnyEvent, Evaluated
from finetui.tui.app.app import FinetuiApp
from finetui.tui.screens.errors.screen import ErrorsScreen
from finetui.tui.screens.train.class_rows import MOST_ROWS, average, heading, layout, line, total, widest, worst_first

CLOTHES = ("T-shirt/top", "Trouser", "Pullover", "Dress", "Coat", "Sandal", "Shirt", "Sneaker", "Bag", "Ankle boot")


def scored(wrong: list[int], labels: tuple[str, ...] = CLOTHES, *, epoch: int = 1, mistaken: bool = True) -> Evaluated:
    """Return an evaluation with so many mistakes among the 100 images of each class, of the next one mostly."""
    done = evaluated(epoch, 0.9, labels)
    reports = tuple(
        msgspec.structs.replace(
            report,
            accuracy=1 - number / 100,
            recall=1 - number / 100,
            loss=0.25 if mistaken else None,
            mistaken_for=(place + 1) % len(labels) if mistaken and number else None,
            mistaken=number,
        )
        for place, (report, number) in enumerate(zip(done.per_class, wrong, strict=True))
    )
    return msgspec.structs.replace(done, per_class=reports)


WRONG = [28, 0, 5, 5, 60, 1, 90, 3, 2, 7]


def test_the_class_with_most_mistakes_is_first_and_changes_are_counted() -> None:
    rows = worst_first(scored(WRONG, epoch=2), scored([30, 0, 4, 5, 60, 1, 90, 3, 2, 9]))
    assert [row.label for row in rows[:4]] == ["Shirt", "Coat", "T-shirt/top", "Ankle boot"]
    assert [(row.label, row.change) for row in rows if row.change] == [
        ("T-shirt/top", -2), ("Ankle boot", -2), ("Pullover", 1),
    ]  # fmt: skip
    assert rows[0].mistaken_for == "Sneaker"
    assert rows[-1].mistaken_for == ""  # Trouser has no mistake


def test_as_many_classes_as_one_can_look_at_are_kept() -> None:
    labels = tuple(f"class {number}" for number in range(3 * MOST_ROWS))
    wrong = [number % 50 for number in range(len(labels))]
    rows = worst_first(scored(wrong, labels), None)
    assert len(rows) == MOST_ROWS
    assert min(row.report.wrong for row in rows) >= 33
    found = layout(80, widest(rows))
    assert f"class (+{2 * MOST_ROWS:,})" in heading(found, "test", 2 * MOST_ROWS).plain


@pytest.mark.parametrize("width", [36, 42, 50, 60, 74, 100, 156])
def test_every_width_has_mistakes_and_whole_names_and_lines_that_fit(width: int) -> None:
    rows = worst_first(scored(WRONG), scored(WRONG))
    found = layout(width, widest(rows))
    lines = [line(row, found, 90).plain for row in rows]
    assert all(len(text) <= width for text in (*lines, heading(found, "val", 0).plain))
    assert all(f"→ {row.mistaken_for}" in text for row, text in zip(rows, lines, strict=True) if row.mistaken_for)
    assert all(str(row.report.wrong) in text for row, text in zip(rows, lines, strict=True))
    if width >= 40:
        assert all(row.label in text for row, text in zip(rows, lines, strict=True))


def test_bars_are_as_long_as_the_worst_class_says() -> None:
    rows = worst_first(scored(WRONG), None)
    found = layout(100, widest(rows))
    bars = [line(row, found, 90).plain.count("▇") for row in rows]
    assert bars[0] == found.bar - 1
    assert bars[1] == round(60 / 90 * (found.bar - 1))
    assert bars[-2] == 1  # one mistake is to be seen
    assert bars[-1] == 0


def test_all_figures_have_a_column_where_there_is_room_and_averages_stand_below_them() -> None:
    done = scored(WRONG)
    found = layout(156, widest(worst_first(done, None)))
    assert heading(found, "val", 0).plain.split() == ["class", "change", "precision", "recall", "F1", "loss", "val"]
    report = msgspec.structs.replace(done.per_class[0], label="macro avg")
    row = worst_first(done, None)[0]
    assert len(average(report, found, 156).plain) == len(line(row, found, 90).plain)
    narrow = layout(42, widest(worst_first(done, None)))
    for width, first in ((60, "precision"), (42, "recall"), (34, "F1")):
        shown = average(report, narrow, width).plain
        assert shown.split()[2] == first and shown.endswith("F1 0.9000") and len(shown) <= width


def test_a_journal_without_what_is_mistaken_for_what_is_read() -> None:
    bare = scored(WRONG, mistaken=False)
    fields = msgspec.to_builtins(bare)
    for report in fields["per_class"]:
        for name in ("loss", "mistaken_for", "mistaken"):
            del report[name]
    read = msgspec.convert(fields, AnyEvent)
    assert isinstance(read, Evaluated)
    found = layout(156, widest(worst_first(read, None)))
    first = line(worst_first(read, None)[0], found, 90).plain
    assert "90 wrong" in first
    assert "→" not in first
    assert "–" in first  # no loss is known


async def test_the_worst_class_is_under_the_cursor_until_somebody_moves_it() -> None:
    link = CannedLink(*running(scored(WRONG)))
    app = FinetuiApp(link)
    async with open_app(app, size=(120, 40)) as pilot:
        await pilot.settle()
        rows = app.screen.query_one("#class-rows")
        rows.focus()
        assert " 90 wrong " in picture(app)
        assert "→ Sneaker" in picture(app)
        await pilot.press("down")
        link.events.put(scored([*WRONG[:4], 3, *WRONG[5:]], epoch=2))  # coats are recognised now
        await pilot.until(lambda: "-57" in picture(app))
        assert rows._rows[rows.cursor].label == "Coat"
        await pilot.press("enter")
        await pilot.settle()
        assert isinstance(app.screen, ErrorsScreen)
        assert app.screen._choose_first(CLOTHES).true == 4


def test_before_the_first_evaluation_it_says_how_to_get_one() -> None:
    assert total(None, 60).plain == " No evaluation yet. Press e to evaluate now."
    assert total(None, 18).plain == " No evaluation yet"
    assert total(None, 60, can_evaluate=False).plain == " No evaluation yet"
