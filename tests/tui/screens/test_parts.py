"""The dashboard says which part a number is of, and switches between val and test."""

from pathlib import Path

import msgspec
import pytest
from canned import evaluated, prepared, running
from canned_predictions import AnsweringLink, predictions, saved
from errors_pilot import events_of, line, listed, opened
from pilot import open_app, picture

from finetui.engine.predictions.criteria import Selection
from finetui.engine.predictions.file import Predictions
from finetui.engine.protocol.commands import AnyCommand, Evaluate, FetchImages, FindDuplicates
from finetui.engine.protocol.events import (
    AnyEvent,
    CommandAccepted,
    CommandRefused,
    DuplicatesFound,
    Evaluated,
    Rewound,
)
from finetui.engine.runs.folder import RunFolder
from finetui.engine.runs.journal import Journal
from finetui.engine.runs.summaries import RunSummary, summarise_run
from finetui.tui.app.app import FinetuiApp
from finetui.tui.app.exit_summary import summary
from finetui.tui.screens.train.per_class_table import PerClassTable
from finetui.tui.state.listing import listing_of, told_duplicates
from finetui.tui.state.log_lines import log_line
from finetui.tui.state.parts import sizes
from finetui.tui.state.store import Store
from finetui.tui.widgets.key_bar import KeyBar
from finetui.tui.widgets.line_plot import LinePlot


def of_part(found: Predictions, part: str) -> Predictions:
    found.origin = msgspec.structs.replace(found.origin, part=part)
    return found


class TwoParts(AnsweringLink):
    """A run with val, whose engine evaluates test when it is asked to, or refuses."""

    refuses = False

    def __init__(self, folder: Path) -> None:
        saved(folder, of_part(predictions(), "val"))
        saved(folder, of_part(predictions(seed=5, right=0.5), "test"), "test.predictions")
        first, *rest, done = events_of(folder)
        first = msgspec.structs.replace(first, data=msgspec.structs.replace(first.data, val_size=200))
        self.done = msgspec.structs.replace(done, part="val")
        super().__init__(first, *rest, self.done)

    def send(self, command: AnyCommand) -> None:
        super().send(command)
        if isinstance(command, Evaluate) and self.refuses:
            self.events.put(CommandRefused(command=command, reason="the disk is on fire"))
        elif isinstance(command, Evaluate):
            self.events.put(scored_on_test(self.done))
            self.events.put(CommandAccepted(command=command))


def scored_on_test(done: Evaluated) -> Evaluated:
    reports = tuple(msgspec.structs.replace(report, support=77, accuracy=0.5) for report in done.per_class)
    return msgspec.structs.replace(
        done,
        part="test",
        watched=False,
        best=False,
        accuracy=0.5,
        per_class=reports,
        predictions="test.predictions",
        checkpoint="best",
    )


@pytest.mark.parametrize("size", [(80, 24), (120, 40)])
async def test_the_errors_screen_says_its_part_and_switches(tmp_path: Path, size) -> None:
    link = TwoParts(tmp_path)
    app = FinetuiApp(link)
    async with open_app(app, size=size) as pilot:
        screen = await opened(pilot)
        assert line(screen, "title").startswith(" Misclassified val images  ")
        val = listed(screen)
        assert {question.part for question in link.asked(FetchImages)} == {"val"}
        assert "val image" in picture(app)
        await pilot.press("C")
        await pilot.settle()
        assert "of 200 val images wrong" in picture(app)
        await pilot.press("escape")
        await pilot.press("p")
        await pilot.until(lambda: "Misclassified test images" in line(screen, "title"))
        await pilot.settle()
        assert [command.part for command in link.asked(Evaluate)] == ["test"]
        assert listed(screen) != val
        assert link.asked(FetchImages)[-1].part == link.asked(FindDuplicates)[-1].part == "test"
        assert "test image" in picture(app)
        assert app.screen._evaluation.part == "test"
        assert "newer" not in line(screen, "filter")
        await pilot.press("p")
        await pilot.until(lambda: "Misclassified val images" in line(screen, "title"))
        assert listed(screen) == val
        assert len(link.asked(Evaluate)) == 1  # what is known is not evaluated again


async def test_a_part_that_cannot_be_had_leaves_the_other_on_the_screen(tmp_path: Path) -> None:
    link = TwoParts(tmp_path)
    link.refuses = True
    app = FinetuiApp(link)
    async with open_app(app, size=(120, 40)) as pilot:
        screen = await opened(pilot)
        before = listed(screen)
        await pilot.press("p")
        await pilot.until(lambda: "the disk is on fire" in line(screen, "filter"))
        assert listed(screen) == before
        await pilot.wait(1)
        assert line(screen, "title").startswith(" Misclassified val images  ")


async def test_the_key_for_the_other_part_is_shown_where_there_is_one(tmp_path: Path, link) -> None:
    for shown, run in ((True, TwoParts(tmp_path)), (False, link)):
        app = FinetuiApp(run)
        async with open_app(app, size=(120, 40)) as pilot:
            screen = await opened(pilot)
            assert ("p Val/test" in screen.query_one(KeyBar)._content.plain) == shown


async def test_a_narrow_title_has_room_for_the_run_and_the_marks(tmp_path: Path) -> None:
    app = FinetuiApp(TwoParts(tmp_path))
    async with open_app(app, size=(80, 24)) as pilot:
        screen = await opened(pilot)
        await pilot.press("space")
        await pilot.settle()
        told = line(screen, "title")
        assert told.endswith("1 marked  ·  a-run step 100") and "CI" not in told
        assert "1 marked  ·  a-run step 100" in picture(app)
        await pilot.resize_terminal(120, 40)
        await pilot.settle()
        assert "95% CI" in line(screen, "title")


async def test_without_val_there_is_nothing_to_switch_to(link) -> None:
    app = FinetuiApp(link)
    async with open_app(app, size=(120, 40)) as pilot:
        screen = await opened(pilot)
        assert line(screen, "title").startswith(" Misclassified test images  ")
        await pilot.press("p")
        await pilot.settle()
        assert "Only test is held out" in picture(app)
        assert link.asked(Evaluate) == []


@pytest.mark.parametrize("size", [(80, 24), (120, 40)])
async def test_the_train_screen_says_the_part_and_its_table_switches(tmp_path: Path, size) -> None:
    link = TwoParts(tmp_path)
    app = FinetuiApp(link)
    async with open_app(app, size=size) as pilot:
        await pilot.settle()
        total = app.screen.query_one("#class-accuracy")
        if size == (80, 24):  # the classes are a tab beside the curves
            assert not total.size
            await pilot.press("9")
        await pilot.until(lambda: "90.00% of 1,000 val images" in total._content.plain)
        plot = app.screen.query_one("#loss", LinePlot)
        assert [series.name for series in plot.plotter.series] == ["train", "val"]
        await pilot.press("p")
        await pilot.until(lambda: "50.00% of 1,000 test images" in total._content.plain)
        assert [series.name for series in plot.plotter.series] == ["train", "val"]
        # The curves, the best and the alerts are about val alone.
        store = app.screen.store
        assert store.curves.watched["accuracy"].points()[1].tolist() == [0.9]
        assert (store.view.evaluation.part, store.view.best_accuracy) == ("val", 0.9)
        await pilot.press("p")
        await pilot.settle()
        assert "val images" in total._content.plain


async def test_a_class_of_the_table_opens_the_errors_of_its_part(tmp_path: Path) -> None:
    link = TwoParts(tmp_path)
    app = FinetuiApp(link)
    async with open_app(app, size=(120, 40)) as pilot:
        await pilot.settle()
        await pilot.press("p")
        await pilot.settle()
        app.screen.query_one("#class-rows").focus()
        await pilot.press("enter")
        await pilot.settle()
        assert line(app.screen, "title").startswith(" Misclassified test images  ")


async def test_the_errors_are_those_of_the_part_that_the_table_shows_until_another_run_begins(tmp_path: Path) -> None:
    link = TwoParts(tmp_path)
    app = FinetuiApp(link)
    async with open_app(app, size=(120, 40)) as pilot:
        await pilot.settle()
        await pilot.press("p")
        await pilot.settle()
        await opened(pilot)
        assert line(app.screen, "title").startswith(" Misclassified test images  ")
        await pilot.press("escape")
        table = app.screen.query_one(PerClassTable)
        assert table.part == "test"
        for event in running():
            link.events.put(event)
        await pilot.until(lambda: table.part == "")


def test_an_evaluation_of_the_watched_part_on_request_is_found() -> None:
    store = Store()
    on_request = msgspec.structs.replace(evaluated(1, 0.9), watched=False)
    store.fold(running(on_request))
    assert store.view.evaluation_of("test") == on_request


async def test_the_layers_screen_says_of_which_part_its_image_is(tmp_path: Path) -> None:
    link = TwoParts(tmp_path)
    app = FinetuiApp(link)
    async with open_app(app, size=(120, 40)) as pilot:
        await pilot.settle()
        await pilot.press("g")
        await pilot.settle()
        label = app.screen.query_one("#image-part")
        assert str(label.render()) == "val"


def test_the_log_and_the_last_lines_say_the_part() -> None:
    first = prepared()
    data = msgspec.structs.replace(first.data, val_size=200)
    assert sizes(data) == "6,400 training, 200 val and 1,000 test images"
    assert sizes(first.data) == "6,400 training and 1,000 test images"
    done = msgspec.structs.replace(evaluated(1, 0.9), part="val")
    assert "val loss 0.1000, accuracy 90.00%, the best so far (chosen on val)" in log_line(done).text
    of_test = "test loss 0.1000, accuracy 50.00%, of the best checkpoint, which was chosen on val"
    assert of_test in log_line(scored_on_test(done)).text
    store = Store()
    later = msgspec.structs.replace(evaluated(2, 0.8), part="val", best=False)
    store.fold(running(done, later, scored_on_test(done)))
    said = next(iter(summary(store.view, outlives=False)))
    assert "val accuracy 80.00% (95% CI 77.41 to 82.36%, n = 1,000), best 90.00% chosen on val" in said
    assert "test accuracy 50.00% (95% CI 46.91 to 53.09%, n = 1,000) of the best checkpoint" in said


def test_the_best_by_another_figure_is_called_by_its_own_accuracy(tmp_path: Path) -> None:
    by_loss = [
        msgspec.structs.replace(evaluated(epoch, accuracy), part="val", best_by="loss", figure=loss, best=best)
        for epoch, accuracy, loss, best in ((1, 0.9, 0.5, True), (2, 0.7, 0.4, True), (3, 0.8, 0.6, False))
    ]
    store = Store()
    store.fold(running(*by_loss))
    assert store.view.best_accuracy == 0.7
    assert "best 70.00% chosen on val by loss" in next(iter(summary(store.view, outlives=False)))
    assert summarised(tmp_path, *by_loss).best_accuracy == 0.7


def test_what_a_rollback_undoes_is_summarised_no_more(tmp_path: Path) -> None:
    first, second = (msgspec.structs.replace(evaluated(epoch, 0.9 - epoch / 10), part="val") for epoch in (1, 2))
    back = Rewound(cause="rollback", file="a.ckpt", at=0, epoch=1, undone=100, learning_rate=0.1, layers=(),
                   norm_trains=False, best_accuracy=0.8, step=100)  # fmt: skip
    test = scored_on_test(first)
    found = summarised(tmp_path, first, test, second, back)
    assert (found.accuracy, found.test_accuracy) == (None, 0.5)  # the last one is undone
    found = summarised(tmp_path, first, msgspec.structs.replace(back, step=100), test)
    assert (found.accuracy, found.test_accuracy) == (first.accuracy, 0.5)


def test_duplicates_of_another_part_than_is_listed_by_then_are_not_told() -> None:
    listing = listing_of(of_part(predictions(), "test"), Selection())
    found = DuplicatesFound(command=FindDuplicates(part="val"), pairs=((1, 2),))
    assert told_duplicates(listing, FindDuplicates(part="val"), found, ()) is listing
    assert told_duplicates(listing, FindDuplicates(part="test"), found, ()).duplicates == {1: 2}


def summarised(folder: Path, *more: AnyEvent) -> RunSummary:
    journal = Journal()
    path = folder / str(len(more))
    path.mkdir()
    journal.open(path / "journal.jsonl")
    for event in running(*more):
        journal.append(event)
    found = summarise_run(RunFolder(path))
    assert found is not None
    return found


def test_what_is_called_best_says_what_it_was_chosen_on() -> None:
    line = log_line(evaluated(1, 0.9))
    assert line is not None
    assert "the best so far (chosen on test)" in line.text
