"""Exports: what is in them, and that nothing is lost or half written."""

import csv
import io
import json
from pathlib import Path

import numpy as np
import pytest
from canned_predictions import predictions, saved
from PIL import Image

from finetui.engine.errors import BadInput, FinetuiError
from finetui.engine.predictions.criteria import Selection
from finetui.engine.predictions.file import load_predictions
from finetui.tui.state.export import COLUMNS, export, target_of, to_csv, to_json
from finetui.tui.state.listing import Listing, listing_of

HOSTILE = ("../up", "a/b", "[red]", "new\nline", "", "漢字", "x" * 300, ".hidden", "=SUM(A1)", 'quote"d, and so on')


@pytest.fixture
def listing(tmp_path: Path) -> Listing:
    paths = tuple(f"/data/test/{i}\udcff, odd.png" for i in range(40))
    return listing_of(
        load_predictions(saved(tmp_path / "run", predictions(40, HOSTILE, paths=paths))), Selection(show="all")
    )


def grey(indices) -> list[np.ndarray | str]:
    return ["it is gone" if index == 3 else np.full((28, 28, 1), index % 256, np.uint8) for index in indices]


def test_json_and_csv_say_the_same(listing: Listing) -> None:
    rows = listing.rows.tolist()
    found = listing.predictions
    objects = json.loads(to_json(listing, rows))
    lines = list(csv.DictReader(io.StringIO(to_csv(listing, rows), newline="")))
    assert len(objects) == len(lines) == 40
    for row, item, line in zip(rows, objects, lines, strict=True):
        assert tuple(item) == COLUMNS
        assert item["index"] == int(line["index"]) == found.index[row]
        assert item["path"] == line["path"] == found.files.path(row)
        assert (item["true"], item["predicted"]) == (found.label[row], found.predicted[row])
        assert item["true_name"] == line["true_name"] == found.classes[found.label[row]]
        assert item["loss"] == pytest.approx(float(found.loss[row]), rel=1e-5)
        assert sum(top["probability"] for top in item["top"]) == pytest.approx(1, abs=1e-4)
        assert item["label_likely_wrong"] == bool(listing.label_errors[row])
    to_json(listing, rows).encode("ascii")
    to_csv(listing, rows).encode("utf-8", "surrogateescape")


def test_a_training_image_is_named(listing: Listing) -> None:
    known = listing.with_duplicates([(5, 77)])
    assert {item["index"]: item["training_image"] for item in json.loads(to_json(known, [4, 5]))} == {4: None, 5: 77}


def test_a_folder_holds_every_image_in_order_whatever_the_names_are(listing: Listing, tmp_path: Path) -> None:
    rows = listing.rows.tolist()
    words = export(target_of(str(tmp_path / "out")), listing, rows, grey)
    files = sorted(file.name for file in (tmp_path / "out").iterdir())
    images = [name for name in files if name.endswith(".png")]
    assert "39 images and predictions.csv" in words
    assert "1 could not be loaded" in words
    assert len(images) == 39
    assert [int(name.split("_")[1]) for name in images] == [
        int(listing.predictions.index[row]) for row in rows if listing.predictions.index[row] != 3
    ]
    for name in images:
        assert (np.asarray(Image.open(tmp_path / "out" / name)) == int(name.split("_")[1])).all()
    assert sorted(path.name for path in tmp_path.iterdir()) == ["out", "run"]


def test_colour_images_keep_their_colours(listing: Listing, tmp_path: Path) -> None:
    red = np.zeros((4, 5, 3), np.uint8)
    red[:, :, 0] = 200
    export(target_of(str(tmp_path / "out")), listing, [0], lambda indices: [red for _ in indices])
    (image,) = (tmp_path / "out").glob("*.png")
    assert np.array_equal(np.asarray(Image.open(image)), red)


def test_a_contact_sheet_shows_every_image(listing: Listing, tmp_path: Path) -> None:
    rows = [1, 2, 30]
    export(target_of(str(tmp_path / "sheet.png")), listing, rows, lambda indices: grey([40 * i for i in indices]))
    sheet = np.asarray(Image.open(tmp_path / "sheet.png"))
    for index in (40, 80):
        assert (sheet == index).all(2).sum() >= 84 * 84 - 200  # enlarged by three: 84 x 84 pixels


def test_too_many_images_for_a_sheet_are_refused(tmp_path: Path) -> None:
    many = listing_of(load_predictions(saved(tmp_path, predictions(1001))), Selection(show="all"))
    with pytest.raises(BadInput, match="1,000 images"):
        export(target_of(str(tmp_path / "sheet.png")), many, many.rows.tolist(), grey)
    assert not (tmp_path / "sheet.png").exists()


@pytest.mark.parametrize("name", ["a.csv", "a.json", "a.png", "folder"])
def test_a_failure_leaves_nothing_behind(listing: Listing, tmp_path: Path, monkeypatch, name: str) -> None:
    def full(*_: object, **__: object) -> int:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(Path, "write_bytes", full)
    monkeypatch.setattr(Path, "replace", full)
    with pytest.raises(FinetuiError, match="No space left"):
        export(target_of(str(tmp_path / name)), listing, [0, 1], grey)
    assert [path.name for path in tmp_path.iterdir()] == ["run"]


def test_nothing_to_export_is_said(listing: Listing, tmp_path: Path) -> None:
    with pytest.raises(BadInput, match="nothing to export"):
        export(target_of(str(tmp_path / "a.csv")), listing, [], grey)


def test_what_exists_is_kept_unless_it_may_be_overwritten(listing: Listing, tmp_path: Path) -> None:
    (tmp_path / "a.csv").write_text("precious")
    (tmp_path / "folder").mkdir()
    (tmp_path / "folder" / "mine.txt").write_text("precious")
    for name in ("a.csv", "folder"):
        with pytest.raises(BadInput, match="exists"):
            target_of(str(tmp_path / name))
    export(target_of(str(tmp_path / "folder"), overwrite=True), listing, [0], grey)
    assert (tmp_path / "folder" / "mine.txt").read_text() == "precious"
    assert (tmp_path / "folder" / "predictions.csv").exists()
    for path, words in (
        (tmp_path / "x.txt", "use .csv"),
        (tmp_path / "no" / "x.csv", "create it first"),
        ("", "enter a file"),
    ):
        with pytest.raises(BadInput, match=words):
            target_of(str(path))
