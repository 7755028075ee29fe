"""The words of the Errors screen, and what a listing knows."""

from pathlib import Path

import numpy as np
import pytest
from canned_predictions import predictions, saved
from textual.content import Content

from finetui.engine.errors import BadInput
from finetui.engine.predictions.criteria import CHANGE_WORDS, Selection
from finetui.engine.predictions.file import load_predictions
from finetui.engine.predictions.label_errors import label_quality
from finetui.tui.screens.errors.text import (
    after_tabs,
    before_tabs,
    brief_details,
    caption,
    caption_widths,
    details,
    tab_words,
    title,
    top_lines,
)
from finetui.tui.state.listing import SHOWN_TOP, Listing, image_name, listing_of


@pytest.fixture
def listing(tmp_path: Path) -> Listing:
    return listing_of(load_predictions(saved(tmp_path, predictions())), Selection())


def row_where(listing: Listing, *, wrong: bool) -> int:
    return int(np.flatnonzero(listing.predictions.wrong == wrong)[0])


def test_the_title_counts_what_is_listed_and_what_is_wrong(listing: Listing) -> None:
    wrong = int(listing.predictions.wrong.sum())
    text = title(listing, 0, 200).plain
    assert text.startswith(" Misclassified test images  ")
    assert f"{wrong:,} of 200 wrong  ·  {1 - wrong / 200:.2%} correct  (95% CI" in text
    assert "marked" not in text
    assert "3 marked" in title(listing, 3, 200).plain


@pytest.mark.parametrize("width", range(46, 130, 7))
def test_what_has_no_room_in_the_lines_on_top_is_left_out_whole(listing: Listing, tmp_path: Path, width: int) -> None:
    compared = listing.compare(saved(tmp_path / "older", predictions(seed=7)), "other-class", ())
    narrow, wide = (title(compared, 3, cells).plain for cells in (width, 200))
    assert len(narrow) < width and set(narrow.split("  ")) <= set(wide.split("  "))
    narrow, wide = (after_tabs(compared, cells, clears=True).plain for cells in (width, 200))
    assert len(narrow) <= width and set(narrow.split("  ")) <= set(wide.split("  "))
    assert "wrong" in narrow  # the net change goes last


def test_every_filter_is_named(listing: Listing) -> None:
    chosen = Selection(
        show="all", true=4, predicted=9, low=0.5, high=0.75, text="a\x1b[31mb", duplicates=True,
        label_errors="confident-learning", marked=True, sort="margin", reverse=True,
    )  # fmt: skip
    text = after_tabs(listing.select(chosen, ()), 300, clears=True).plain
    words = (
        "true 4",
        "predicted 9",
        "50% to 75%",
        "possible label errors",
        "in the training set",
        "marked",
    )
    for word in (*words, "highest margin first", "esc clears"):
        assert word in text, text
    assert "\x1b" not in text
    assert "esc clears" not in after_tabs(listing, 200, clears=False).plain
    number = int(listing.label_errors.sum())
    assert f"{number} possible label error" in after_tabs(listing, 200, clears=False).plain


def test_where_room_is_scarce_the_true_class_stands_behind_the_image_unless_it_is_a_likely_one(
    listing: Listing,
) -> None:
    found = listing.predictions
    rows = np.flatnonzero(found.wrong).tolist()
    likely = {row: found.label[row] in [label for label, _ in found.top(row)[:SHOWN_TOP]] for row in rows}
    assert set(likely.values()) == {True, False}
    for row, is_likely in likely.items():
        first, *_ = brief_details(listing, row, 29, marked=False)
        assert first.plain.startswith(image_name(found, row)) and first.cell_length <= 29
        assert first.plain.endswith(f" ✓ {found.classes[found.label[row]]}") == (not is_likely)


def test_a_mistake_shows_both_classes_and_a_right_one_its_own(listing: Listing) -> None:
    wrong, right = row_where(listing, wrong=True), row_where(listing, wrong=False)
    found = listing.predictions
    (first, _), folded = caption(listing, wrong)
    assert first.plain == f"{found.label[wrong]} → {found.predicted[wrong]}"
    assert [line.plain for line in folded[:2]] == [f"{found.label[wrong]}", f"→ {found.predicted[wrong]}"]
    (first, second), _ = caption(listing, right)
    assert first.plain == f"{found.label[right]}"
    assert second.plain == f"{found.confidence[right]:.0%}"


def test_flags_are_shown_by_signs_and_words(listing: Listing) -> None:
    flagged = int(np.flatnonzero(listing.label_errors)[0])
    known = listing.with_duplicates([(flagged, 1234)])
    assert caption(known, flagged)[0][1].plain.endswith("?=")
    text = "\n".join(line.plain for line in details(known, flagged, 40, marked=True, explained=(Content("by magic"),)))
    for words in ("? possible label error", "= training image 1,234", "● marked", "by magic"):
        assert words in text
    plain = "\n".join(line.plain for line in details(listing, flagged, 40, marked=False))
    assert "training image" not in plain
    assert "marked" not in plain


def test_top_classes_add_up_with_the_bars_in_proportion(listing: Listing) -> None:
    lines = [line.plain for line in top_lines(listing.predictions, 0, 40)]
    assert len(lines) == 5
    assert {len(line) for line in lines} == {40}
    likeliest = listing.predictions.top(0)[0][1]
    assert lines[0].count("━") == round(likeliest * (lines[0].count("━") + lines[0].count("─")))
    assert sum("✓" in line for line in lines) <= 1


@pytest.mark.parametrize("width", [20, 31, 60])
def test_no_line_is_wider_than_the_pane(tmp_path: Path, width: int) -> None:
    hostile = ("[bold]x[/bold]", "漢字" * 30, "‮evil", "a\nb", "e\u0301" * 40)
    found = predictions(20, hostile, paths=tuple(f"/data/{'long' * 30}/{i}\x1b[2J漢字.png" for i in range(20)))
    listing = listing_of(load_predictions(saved(tmp_path, found)), Selection(show="all"))
    for row in range(20):
        for line in details(listing, row, width, marked=True, explained=(Content("x" * 100),)):
            assert line.cell_length <= width
            assert not set("\x1b\n\u202e") & set(line.plain)


def test_a_comparison_lists_what_changed_and_shows_what_was(listing: Listing, tmp_path: Path) -> None:
    before, found = predictions(seed=7), listing.predictions
    path = saved(tmp_path / "older", before)
    for change, was_wrong, is_wrong in (("fixed", True, False), ("broken", False, True), ("still-wrong", True, True)):
        compared = listing.compare(path, change, ())
        expected = np.flatnonzero((before.wrong == was_wrong) & (listing.predictions.wrong == is_wrong))
        assert sorted(compared.rows.tolist()) == expected.tolist()
        assert before_tabs(compared).plain == " vs older (last) "
        tab = next(tab for tab in compared.tabs if tab.chosen)
        assert tab.number == len(expected)
        assert tab_words(tab).plain == f" {CHANGE_WORDS[change]} {len(expected)} "
        for row in compared.rows.tolist():
            (_, second), (*_, last) = caption(compared, row)
            versus = "" if found.predicted[row] == before.predicted[row] else f" vs {before.predicted[row]}"
            flags = " ?" if compared.label_errors[row] else ""
            assert second.plain == f"{found.confidence[row]:.0%}{versus}{flags}"
            assert last.plain == (versus[1:] or f"{found.confidence[row]:.0%}") + flags
            assert second.cell_length <= caption_widths(compared)[0]
    row = int(compared.rows[0])
    text = "\n".join(line.plain for line in details(compared, row, 60, marked=False))
    assert f"older (last): {before.predicted[row]}" in text


def test_other_images_cannot_be_compared(listing: Listing, tmp_path: Path) -> None:
    with pytest.raises(BadInput, match="not about the same test images"):
        listing.compare(saved(tmp_path / "other", predictions(100)), "fixed", ())
    with pytest.raises(BadInput, match="no class in common"):
        listing.compare(saved(tmp_path / "third", predictions(200, tuple("abcdefghij"))), "fixed", ())


def test_duplicates_go_by_the_place_in_the_test_set(tmp_path: Path) -> None:
    found = predictions(10)
    found.index = np.arange(10, dtype=np.int32) * 10  # the others proved unreadable
    listing = listing_of(load_predictions(saved(tmp_path, found)), Selection(show="all")).with_duplicates(
        [(30, 7), (35, 8)]
    )
    assert listing.duplicates == {3: 7}
    assert listing.select(Selection(show="all", duplicates=True), ()).rows.tolist() == [3]


def test_an_image_without_a_file_goes_by_its_place(listing: Listing) -> None:
    assert image_name(listing.predictions, 17) == "test image 17"


def test_label_errors_are_ranked_by_label_quality(listing: Listing) -> None:
    flagged = np.flatnonzero(listing.label_errors)
    quality = label_quality(listing.predictions.loss)
    by_quality = flagged[np.argsort(quality[flagged], kind="stable")].tolist()
    assert [listing.label_error_rank(row) for row in by_quality] == [(i + 1, len(flagged)) for i in range(len(flagged))]
    assert listing.label_error_rank(int(np.flatnonzero(~listing.label_errors)[0])) == (0, len(flagged))
    listed = listing.select(Selection(label_errors="confident-learning", sort="loss"), ())
    assert listed.rows.tolist() == by_quality
