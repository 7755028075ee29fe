"""The screens that the Errors screen opens: filter, comparison, export."""

import csv
import json
from pathlib import Path

import msgspec
import numpy as np
import pytest
from canned import evaluated, prepared
from canned_predictions import AnsweringLink, predictions, saved
from errors_pilot import ScreenApp, events_of, line, listed, opened
from PIL import Image
from pilot import open_app, picture

from finetui.engine.predictions.comparison import mcnemar
from finetui.engine.predictions.criteria import Selection
from finetui.engine.protocol.events import RunStarted, StateChanged
from finetui.engine.runs.journal import encode_line
from finetui.tui.app.app import FinetuiApp
from finetui.tui.screens.errors.compare import CompareScreen
from finetui.tui.screens.errors.export_form import ExportForm
from finetui.tui.screens.errors.filter_form import FilterForm
from finetui.tui.screens.errors.screen import ErrorsScreen

# -- the filter ---------------------------------------------------------------------------------------------


async def test_a_filter_is_typed_and_applied_with_enter(link, found) -> None:
    app = FinetuiApp(link)
    async with open_app(app, size=(80, 24)) as pilot:
        screen = await opened(pilot)
        await pilot.press("/")
        await pilot.settle()
        assert isinstance(app.screen, FilterForm)
        await pilot.press("right", "right", "right", "down", "4", "down", "down", "2", "0", "down", "9", "0", "enter")
        await pilot.settle()
        assert app.screen is screen
        assert screen._listing.selection == Selection(show="all", true=4, low=0.2, high=0.9)
        keep = (found.label == 4) & (found.confidence >= 0.2) & (found.confidence <= 0.9)
        assert sorted(listed(screen)) == np.flatnonzero(keep).tolist()


@pytest.mark.parametrize(
    ("field", "typed", "words"),
    [
        ("true", "elephant", "no class 'elephant'"),
        ("true", "tabby", "did you mean tabby cat"),
        ("predicted", "12", "no class '12'"),
        ("low", "101", "not between 0% and 100%"),
        ("low", "1.2.3", "not a percentage"),
        ("high", "0", "the minimum 50% is above"),
    ],
)
async def test_what_makes_no_sense_is_said_and_not_applied(field: str, typed: str, words: str) -> None:
    classes = ("tabby cat", "tiger cat", "dog")
    form = FilterForm(Selection(low=0.5, high=0.9), classes, has_files=True, can_compare=False)
    app = ScreenApp(form)
    async with open_app(app, size=(120, 40)) as pilot:
        await pilot.settle()
        form.query_one(f"#{field}").value = typed
        await pilot.settle()
        assert words in picture(app).replace("\n", " ")
        await pilot.press("enter")
        await pilot.settle()
        assert app.answer == "not yet"
        await pilot.press("escape")
        await pilot.settle()
        assert app.answer is None


async def test_the_form_begins_with_what_is_and_can_be_applied_unchanged() -> None:
    selection = Selection(
        show="all", true=1, predicted=0, low=0.25, high=0.75, text="IMG", marked=True,
        label_errors="prune-by-noise-rate", change="fixed", sort="margin", reverse=True, duplicates=True,
    )  # fmt: skip
    app = ScreenApp(FilterForm(selection, ("a", "b"), has_files=True, can_compare=True))
    async with open_app(app, size=(80, 24)) as pilot:
        await pilot.settle()
        await pilot.click("#apply")
        await pilot.settle()
        assert app.answer == selection


# -- comparing ----------------------------------------------------------------------------------------------


def make_run(folder: Path, found, *, parent: str | None = None, accuracy: float = 0.9) -> Path:
    saved(folder, found, "best.predictions")
    saved(folder, found, "last.predictions")
    begun = msgspec.structs.replace(prepared(), parent=parent)
    events = [
        begun,
        RunStarted(name=folder.name, path=str(folder)),
        evaluated(1, accuracy),
        StateChanged(state="finished"),
    ]
    (folder / "journal.jsonl").write_bytes(b"".join(map(encode_line, events)))
    return folder


async def test_the_parent_comes_first_and_another_run_is_compared_with(tmp_path: Path) -> None:
    now, before = predictions(seed=1), predictions(seed=2)
    make_run(tmp_path / "other", predictions(seed=3))
    make_run(tmp_path / "of-others", predictions(50))
    make_run(tmp_path / "older", before)
    own = make_run(tmp_path / "a-run", now, parent="older")
    saved(own, predictions(seed=4), "best.onnx.predictions")
    app = FinetuiApp(AnsweringLink(*events_of(own)))
    async with open_app(app, size=(120, 40)) as pilot:
        screen = await opened(pilot)
        await pilot.press("D")
        await pilot.settle()
        assert isinstance(app.screen, CompareScreen)
        text = picture(app)
        assert "exported best.onnx" in text
        assert text.index("its parent") < text.index("other") < text.index("this run")
        assert "of-others" not in text  # its images are others
        tested = mcnemar(~now.wrong, ~before.wrong)
        assert [f"{tested.fixed}", f"{tested.broken}"] == next(r for r in text.splitlines() if "parent" in r).split()[
            2:4
        ]
        await pilot.press("enter")
        await pilot.settle()
        assert app.screen is screen
        assert sorted(listed(screen)) == np.flatnonzero(~before.wrong & now.wrong).tolist()
        still, fixed = before.wrong & now.wrong, before.wrong & ~now.wrong
        counts = f"fixed {fixed.sum()} │ newly wrong {tested.broken} │ still wrong {still.sum()}"
        assert line(screen, "filter").startswith(f" vs older (best)  {counts}")
        assert tested.net() in line(screen, "filter")
        other = before.predicted != now.predicted
        for words, keep in (("Still misclassified", still), ("Differently classified", other), ("Fixed", fixed)):
            await pilot.press("v")
            await pilot.settle()
            assert words in line(screen, "title")
            assert sorted(listed(screen)) == np.flatnonzero(keep).tolist()
        await pilot.press("escape")
        await pilot.settle()
        assert sorted(listed(screen)) == np.flatnonzero(now.wrong).tolist()


async def test_what_has_no_counterpart_among_the_classes_is_said(tmp_path: Path) -> None:
    found = predictions()
    found.origin = msgspec.structs.replace(found.origin, notices=("b lacks a class of the network's, horse",))
    app = FinetuiApp(AnsweringLink(*events_of(make_run(tmp_path / "a-run", found))))
    async with open_app(app, size=(120, 40)) as pilot:
        await opened(pilot)
        await pilot.settle()
        assert "b lacks a class of the network's, horse" in picture(app)


async def test_images_that_have_become_others_are_refused_in_words_and_the_list_stays(tmp_path: Path) -> None:
    make_run(tmp_path / "other", predictions(seed=2))
    own = make_run(tmp_path / "a-run", predictions())
    app = FinetuiApp(AnsweringLink(*events_of(own)))
    async with open_app(app, size=(120, 40)) as pilot:
        screen = await opened(pilot)
        before = listed(screen)
        await pilot.press("D")
        await pilot.settle()
        saved(tmp_path / "other", predictions(50), "best.predictions")
        await pilot.press("enter")
        await pilot.settle()
        assert "not about the same test images" in picture(app)
        assert listed(screen) == before


async def test_nothing_to_compare_with_is_said(tmp_path: Path) -> None:
    app = ScreenApp(CompareScreen(tmp_path, tmp_path / "a-run", predictions()))
    async with open_app(app, size=(80, 24)) as pilot:
        await pilot.settle()
        assert "no other evaluation of the same images" in picture(app)
        await pilot.press("escape")
        await pilot.settle()
        assert app.answer is None


# -- export -------------------------------------------------------------------------------------------------


async def export_to(pilot, path: Path, *keys: str) -> None:
    await pilot.press(">")
    await pilot.settle()
    form = pilot.app.screen
    assert isinstance(form, ExportForm)
    form.query_one("#path").value = str(path)
    await pilot.settle()
    await pilot.press(*keys, "enter")
    await pilot.settle()
    await pilot.settle()


async def test_what_is_listed_or_marked_is_exported(link, found, tmp_path: Path) -> None:
    app = FinetuiApp(link)
    async with open_app(app, size=(120, 40)) as pilot:
        screen = await opened(pilot)
        rows = listed(screen)
        await export_to(pilot, tmp_path / "all.json")
        assert [item["index"] for item in json.loads((tmp_path / "all.json").read_text())] == rows
        assert f"{len(rows)} predictions written to" in picture(app)
        assert app.toasts.copies == str(tmp_path / "all.json")
        await pilot.press("right", "space")
        await export_to(pilot, tmp_path / "marked.csv")
        with (tmp_path / "marked.csv").open(newline="") as file:
            assert [int(row["index"]) for row in csv.DictReader(file)] == [rows[1]]
        await export_to(pilot, tmp_path / "sheet.png", "right")
        assert Image.open(tmp_path / "sheet.png").width > 500
        await export_to(pilot, tmp_path / "folder", "right")
        images = sorted((tmp_path / "folder").glob("*.png"))
        assert len(images) == len(rows)
        assert (np.asarray(Image.open(images[0])) == rows[0]).all()
        assert isinstance(app.screen, ErrorsScreen)


async def test_what_exists_is_not_overwritten_unasked(link, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "there.csv").write_text("precious")
    app = FinetuiApp(link)
    async with open_app(app, size=(120, 40)) as pilot:
        await opened(pilot)
        await pilot.press(">")
        await pilot.settle()
        form = app.screen
        for path, words in (
            ("there.csv", "exists"),
            ("nowhere/a.csv", "create it first"),
            ("a.txt", "use .csv"),
            ("", "enter a file"),
        ):
            form.query_one("#path").value = path
            await pilot.settle()
            boxed = (line.partition("█  ")[2] for line in picture(app).splitlines())
            assert words in " ".join(" ".join(line[:76] for line in boxed).split()), path  # wrapped by its length
            await pilot.press("enter")
            await pilot.settle()
            assert app.screen is form
        assert (tmp_path / "there.csv").read_text() == "precious"
        form.query_one("#path").value = str(tmp_path / "there.csv")
        form.query_one("#overwrite").action_cycle(1)
        await pilot.settle()
        await pilot.press("enter")
        await pilot.settle()
        assert (tmp_path / "there.csv").read_text().startswith("index,")
