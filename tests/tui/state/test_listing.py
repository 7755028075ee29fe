"""The words of the Errors screen, and what a listing knows."""

from pathlib import Path

import numpy as np
import pytest
from canned_predictions import predictions, saved

from finetui.engine.errors import BadInput
from finetui.engine.predictions.criteria import Selection
from finetui.engine.predictions.file import load_predictions
from finetui.tui.screens.errors.text import caption, details, filter_line, title, top_lines
from finetui.tui.state.listing import Listing, image_name, listing_of


@pytest.fixture
def listing(tmp_path: Path) -> Listing:
    return listing_of(load_predictions(saved(tmp_path, predictions())), Selection())


def row_where(listing: Listing, *, wrong: bool) -> int:
    return int(np.flatnonzero(listing.predictions.wrong == wrong)[0])


def test_the_title_counts_what_is_listed_and_what_is_wrong(listing: Listing) -> None:
    wrong = int(listing.predictions.wrong.sum())
    text = title(listing, 0).plain
    assert f"{wrong:,} listed" in text
    assert f"{wrong:,} of 200 wrong, {1 - wrong / 200:.2%} right" in text
    assert "marked" not in text
    assert "3 marked" in title(listing, 3).plain


def test_every_filter_is_named(listing: Listing) -> None:
    chosen = Selection(
        show="all", true=4, predicted=9, low=0.5, high=0.75, text="a\x1b[31mb", duplicates=True,
        label_errors="confident-learning", marked=True, sort="margin", reverse=True,
    )  # fmt: skip
    text = filter_line(listing.select(chosen, ())).plain
    words = (
        "all images",
        "true 4",
        "predicted 9",
        "50% to 75%",
        "label possibly wrong",
        "in the training set",
        "marked",
    )
    for word in (*words, "label possibly wrong", "highest margin first", "c clears"):
        assert word in text, text
    assert "\x1b" not in text
    assert "c clears" not in filter_line(listing).plain


def test_a_mistake_shows_both_classes_and_a_right_one_its_own(listing: Listing) -> None:
    wrong, right = row_where(listing, wrong=True), row_where(listing, wrong=False)
    found = listing.predictions
    assert caption(listing, wrong)[0].plain == f"{found.label[wrong]} → {found.predicted[wrong]}"
    assert caption(listing, right)[0].plain == f"{found.label[right]}"
    assert caption(listing, right)[1].plain == f"{found.confidence[right]:.0%}"


def test_flags_are_shown_by_signs_and_words(listing: Listing) -> None:
    flagged = int(np.flatnonzero(listing.label_errors)[0])
    known = listing.with_duplicates([(flagged, 1234)])
    assert caption(known, flagged)[1].plain.endswith("?=")
    text = "\n".join(line.plain for line in details(known, flagged, 40, marked=True, explained="by magic"))
    for words in ("possibly a wrong label", "= training image 1,234", "● marked", "by magic"):
        assert words in text
    plain = "\n".join(line.plain for line in details(listing, flagged, 40, marked=False, explained=""))
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
        for line in details(listing, row, width, marked=True, explained="x" * 100):
            assert line.cell_length <= width
            assert not set("\x1b\n\u202e") & set(line.plain)


def test_a_comparison_lists_what_changed_and_shows_what_was(listing: Listing, tmp_path: Path) -> None:
    before = predictions(seed=7)
    path = saved(tmp_path / "older", before)
    for change, was_wrong, is_wrong in (("fixed", True, False), ("broken", False, True), ("still-wrong", True, True)):
        compared = listing.compare(path, "older last", change, ())
        expected = np.flatnonzero((before.wrong == was_wrong) & (listing.predictions.wrong == is_wrong))
        assert sorted(compared.rows.tolist()) == expected.tolist()
        assert change.replace("-", " ") in filter_line(compared).plain
    row = int(compared.rows[0])
    text = "\n".join(line.plain for line in details(compared, row, 60, marked=False, explained=""))
    assert f"older last: {before.predicted[row]}" in text


def test_other_images_cannot_be_compared(listing: Listing, tmp_path: Path) -> None:
    with pytest.raises(BadInput, match="not about the same test images"):
        listing.compare(saved(tmp_path / "other", predictions(100)), "other", "fixed", ())
    with pytest.raises(BadInput, match="no class in common"):
        listing.compare(saved(tmp_path / "third", predictions(200, tuple("abcdefghij"))), "third", "fixed", ())


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
