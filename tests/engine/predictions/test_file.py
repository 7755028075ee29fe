"""Predictions in a file: what is written is read, and what is damaged is refused."""

import os
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings, strategies as st
from made_predictions import make

from finetui.engine.errors import BadInput
from finetui.engine.predictions.file import Files, Origin, load_predictions


@given(n=st.integers(0, 30), classes=st.integers(1, 15), seed=st.integers(0, 99), named=st.booleans())
@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=40)
def test_what_is_written_is_read(tmp_path: Path, n: int, classes: int, seed: int, named: bool) -> None:
    paths = tuple(f"/data/å/{i}\udcff{'x' * (i % 5)}.png" for i in range(n)) if named else ()
    made = make(n, classes, seed=seed, paths=paths)
    made.save(tmp_path / "p")
    read = load_predictions(tmp_path / "p")
    assert read.origin == made.origin
    for name in ("index", "label", "predicted", "confidence", "loss", "margin"):
        assert np.array_equal(getattr(read, name), getattr(made, name))
    for row in range(n):
        assert read.top(row) == made.top(row)
        assert len(read.top(row)) == min(classes, 10)
        assert read.files.path(row) == (paths[row] if named else "")
    assert np.array_equal(read.confusion(), made.confusion())
    assert list(tmp_path.iterdir()) == [tmp_path / "p"]
    read.save(tmp_path / "p")
    again = load_predictions(tmp_path / "p")
    assert len(again) == n
    for row in range(n):
        assert again.top(row) == made.top(row)
        assert again.files.path(row) == read.files.path(row)


def test_the_same_predictions_are_the_same_bytes(tmp_path: Path) -> None:
    def written(_: int) -> bytes:
        make(10, seed=1).save(tmp_path / "p")
        return (tmp_path / "p").read_bytes()

    assert len(set(map(written, range(12)))) == 1


def test_a_page_is_read_without_the_rest(tmp_path: Path) -> None:
    made = make(200_000, 10)
    made.save(tmp_path / "p")
    read = load_predictions(tmp_path / "p")
    assert not isinstance(read._top, np.ndarray)  # a slice of the file, not its content
    assert read.top(199_999) == made.top(199_999)
    rows = [rows for rows, _, _ in read.top_pages()]
    assert rows[0].start == 0
    assert rows[-1].stop == 200_000
    assert len(rows) == 4


def test_a_file_that_is_replaced_can_still_be_read_by_who_has_it_open(tmp_path: Path) -> None:
    make(10, seed=1).save(tmp_path / "p")
    read = load_predictions(tmp_path / "p")
    before = read.top(3)
    make(10, seed=2).save(tmp_path / "p")
    assert read.top(3) == before
    assert load_predictions(tmp_path / "p").top(3) != before


def test_a_full_disk_leaves_what_was_there(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    make(10, seed=1).save(tmp_path / "p")
    before = (tmp_path / "p").read_bytes()

    def full(_self: Path, _target: Path) -> Path:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(Path, "replace", full)
    with pytest.raises(OSError, match="No space"):
        make(10, seed=2).save(tmp_path / "p")
    assert (tmp_path / "p").read_bytes() == before
    assert list(tmp_path.iterdir()) == [tmp_path / "p"]


def test_every_flipped_byte_is_refused_in_words_or_does_no_harm(tmp_path: Path) -> None:
    path = tmp_path / "p"
    make(6, 3, paths=tuple(f"/a/{i}" for i in range(6))).save(path)
    content = path.read_bytes()
    refused = 0
    for at in range(0, len(content), 3):
        path.write_bytes(content[:at] + bytes([content[at] ^ 0xFF]) + content[at + 1 :])
        try:
            read = load_predictions(path)
        except BadInput as error:
            refused += 1
            assert "p is damaged" in str(error) or "has no predictions" in str(error)
        else:
            for row in range(len(read)):
                assert 0 <= read.label[row] < 3
                assert 0 <= read.predicted[row] < 3
                read.top(row)
                read.files.name(row)
            read.confusion()
    assert refused > 50


@pytest.mark.parametrize("length", [0, 1, 7, 8, 9, 100, -1])
def test_a_truncated_file_is_refused(tmp_path: Path, length: int) -> None:
    make().save(tmp_path / "p")
    content = (tmp_path / "p").read_bytes()
    (tmp_path / "p").write_bytes(content[:length])
    with pytest.raises(BadInput, match="evaluate again"):
        load_predictions(tmp_path / "p")


def test_missing_and_unreadable_files_are_said(tmp_path: Path) -> None:
    with pytest.raises(BadInput, match="there is no file"):
        load_predictions(tmp_path / "nothing")
    with pytest.raises(BadInput):
        load_predictions(tmp_path)


def test_class_names_are_made_harmless_when_read(tmp_path: Path) -> None:
    made = make(3, 2)
    made.origin = Origin(classes=("a\x1b[31m", "b\n"), data="d")
    made.save(tmp_path / "p")
    assert not set("\x1b\n") & set("".join(load_predictions(tmp_path / "p").classes))


names = st.lists(st.text(st.characters(codec="utf-8", exclude_characters="\0"), max_size=8), max_size=12)


@given(names=names, part=st.text(max_size=3))
def test_searching_names_finds_what_a_plain_search_finds(names: list[str], part: str) -> None:
    paths = tuple(f"/root/{name}" for name in names)
    files = Files.of(paths)
    found = files.containing(part)
    assert [bool(hit) for hit in found] == [part.lower() in files.name(row).lower() for row in range(len(names))]


def test_a_match_does_not_reach_into_the_next_name() -> None:
    files = Files.of(("/r/ab", "/r/cd", "/r/xabx"))
    assert files.containing("bc").tolist() == [False, False, False]
    assert files.containing("AB").tolist() == [True, False, True]
    assert files.root == "/r"


def test_a_single_file_has_its_folder_as_root() -> None:
    files = Files.of(("/a/b/c.png",))
    assert (files.root, files.name(0), files.path(0)) == ("/a/b", "c.png", os.path.join("/a/b", "c.png"))  # noqa: PTH118


def test_files_of_some_rows() -> None:
    files = Files.of(("/r/a", "/r/bb", "/r/c"))
    assert [files.at(np.array([2, 1])).path(row) for row in range(2)] == ["/r/c", "/r/bb"]
