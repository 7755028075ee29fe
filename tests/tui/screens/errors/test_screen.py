"""The Errors screen, by key and mouse, over predictions in a file and a link that answers."""

import time
from pathlib import Path

import numpy as np
import pytest
from canned_predictions import AnsweringLink, predictions, saved
from errors_pilot import HOSTILE, SIZES, by_loss, events_of, line, listed, opened
from pilot import open_app, picture
from textual.content import Content
from textual.screen import Screen

from finetui.engine.predictions.criteria import Selection
from finetui.engine.protocol.commands import ExplainImage, FetchImages, FindDuplicates
from finetui.tui.app.app import FinetuiApp
from finetui.tui.keys import MOVES
from finetui.tui.screens.errors.detail_pane import DetailPane
from finetui.tui.screens.errors.screen import ErrorsScreen
from finetui.tui.screens.help import HelpScreen, told
from finetui.tui.screens.train.per_class_table import PerClassTable
from finetui.tui.state.listing import Listing
from finetui.tui.widgets.picture import Picture
from finetui.tui.widgets.thumbnail_grid import ThumbnailGrid


@pytest.mark.parametrize("size", SIZES)
async def test_the_mistakes_are_listed_and_everything_important_is_in_sight(link, found, size) -> None:
    app = FinetuiApp(link)
    async with open_app(app, size=size) as pilot:
        screen = await opened(pilot)
        assert listed(screen) == by_loss(found, np.flatnonzero(found.wrong))
        first = listed(screen)[0]
        text = picture(app)
        wrong = int(found.wrong.sum())
        for words in (
            "Misclassified test images",
            f"mistakes {wrong}",
            f"{wrong} of 200 wrong",
            "highest loss first",
            f"{found.label[first]} → {found.predicted[first]}",
            f"test image {first}",
            f"{found.loss[first]:.3f}",
            "Back",
            "Help",
            "Filter",
            "▀",
        ):
            assert words in text or words == "▀", f"{words} is missing at {size}:\n{text}"
        assert sum("━" in row for row in text.splitlines()) >= 1


async def test_what_is_told_of_an_image_is_laid_out_for_the_room_that_there_has_come_to_be(link, found) -> None:
    app = FinetuiApp(link)
    async with open_app(app, size=(120, 40)) as pilot:
        screen = await opened(pilot)
        bars = {}
        for size in ((120, 40), (80, 24), (120, 40)):
            await pilot.resize_terminal(*size)
            await pilot.settle()
            text = screen.query_one("#detail-text").render().plain
            assert ("predicted" in text) == (size[0] == 120)
            bars[size] = sum("━" in row or "─" in row for row in text.splitlines())
        assert bars == {(120, 40): 5, (80, 24): 3}


async def test_a_look_for_an_image_that_has_not_come_lays_nothing_out(link, found, monkeypatch) -> None:
    app = FinetuiApp(link)
    async with open_app(app, size=(120, 40)) as pilot:
        screen = await opened(pilot)
        await pilot.settle()
        monkeypatch.setattr(screen._thumbnails, "get", lambda _index: None)
        screen._show_detail()
        await pilot.settle()
        assert screen._waits
        laid_out: list[object] = []
        lay_out = Screen._refresh_layout
        monkeypatch.setattr(
            Screen, "_refresh_layout", lambda *given, **how: (laid_out.append(0), lay_out(*given, **how))
        )
        await pilot.settle()
        assert not laid_out


async def test_the_images_are_those_of_the_rows(link, found) -> None:
    app = FinetuiApp(link)
    async with open_app(app, size=(120, 40)) as pilot:
        screen = await opened(pilot)
        grid = screen.query_one(ThumbnailGrid)
        for position in (0, 3, 7):
            tile = grid._tiles[position]
            assert tile.image is not None
            assert (tile.image == listed(screen)[position]).all()  # image i is all of grey i
        shown = screen.query_one(Picture)._image
        assert shown is not None
        assert (shown == listed(screen)[0]).all()
        asked = link.asked(FetchImages)
        assert all(len(question.indices) <= 48 for question in asked)


async def test_moving_shows_the_next_image_without_asking_for_it_again(link, found) -> None:
    app = FinetuiApp(link)
    async with open_app(app, size=(120, 40)) as pilot:
        screen = await opened(pilot)
        before = len(link.asked(FetchImages))
        await pilot.press("right", "right")
        await pilot.settle()
        row = listed(screen)[2]
        assert f"test image {row}" in picture(app)
        assert (screen.query_one(Picture)._image == row).all()
        assert len(link.asked(FetchImages)) == before


async def test_a_large_image_is_fetched_in_full_once_the_cursor_rests(tmp_path: Path, found) -> None:
    saved(tmp_path, found)
    link = AnsweringLink(*events_of(tmp_path), side=64)
    app = FinetuiApp(link)
    async with open_app(app, size=(120, 40)) as pilot:
        screen = await opened(pilot)
        await pilot.until(lambda: any(question.side > 64 for question in link.asked(FetchImages)))
        before = len(link.asked(FetchImages))
        await pilot.press("right", "right", "right")
        await pilot.until(lambda: len(link.asked(FetchImages)) > before)
        questions = link.asked(FetchImages)[before:]
        assert [question.indices for question in questions] == [(listed(screen)[3],)]
        assert questions[0].side > 64


async def test_v_goes_through_what_is_shown_and_o_through_the_orders(link, found) -> None:
    app = FinetuiApp(link)
    async with open_app(app, size=(120, 40)) as pilot:
        screen = await opened(pilot)
        wrong = found.wrong
        for words, expected in (
            ("Correct but unsure test images", ~wrong & (found.margin < 0.3)),
            ("Correctly classified test images", ~wrong),
            ("All test images", wrong | ~wrong),
            ("Misclassified test images", wrong),
        ):
            await pilot.press("v")
            await pilot.settle()
            assert listed(screen) == by_loss(found, np.flatnonzero(expected))
            assert words in line(screen, "title")
            assert f" {expected.sum()} " in line(screen, "filter")
        rows = np.flatnonzero(wrong)
        for words, order in (
            ("most confident first", rows[np.argsort(-found.confidence[rows], kind="stable")]),
            ("lowest margin first", rows[np.argsort(found.margin[rows], kind="stable")]),
            ("in order", rows),
        ):
            await pilot.press("O")
            await pilot.settle()
            assert listed(screen) == order.tolist()
            assert words in line(screen, "filter")
        await pilot.press("R")
        await pilot.settle()
        assert listed(screen) == rows[::-1].tolist()


async def test_marks_are_counted_shown_and_can_be_listed_alone(link) -> None:
    app = FinetuiApp(link)
    async with open_app(app, size=(120, 40)) as pilot:
        screen = await opened(pilot)
        rows = listed(screen)
        await pilot.press("space", "right", "right", "space")
        await pilot.settle()
        assert "2 marked" in line(screen, "title")
        assert picture(app).count("●") >= 2
        await pilot.press("*")
        await pilot.settle()
        assert listed(screen) == [rows[0], rows[2]]
        await pilot.press("space")
        await pilot.settle()
        assert "1 marked" in line(screen, "title")
        await pilot.press("escape")
        await pilot.settle()
        assert listed(screen) == rows


async def test_flags_filter_and_escape_clears(tmp_path: Path, found) -> None:
    saved(tmp_path, found)
    wrong = np.flatnonzero(found.wrong).tolist()
    link = AnsweringLink(*events_of(tmp_path), duplicates=((wrong[4], 77), (wrong[1], 5)))
    app = FinetuiApp(link)
    async with open_app(app, size=(120, 40)) as pilot:
        screen = await opened(pilot)
        assert len(link.asked(FindDuplicates)) == 1
        await pilot.press("U")
        await pilot.settle()
        assert sorted(listed(screen)) == sorted([wrong[4], wrong[1]])
        assert "= training image" in picture(app)
        await pilot.press("U", "!")
        await pilot.settle()
        flagged = screen._listing.label_errors
        assert listed(screen) == by_loss(found, np.flatnonzero(flagged & found.wrong))
        number = int(flagged.sum())
        assert "? possible label error" in picture(app)
        assert f"no. 1 of {number} by label quality" in picture(app)
        assert "lowest label quality first" in line(screen, "filter")
        await pilot.press("escape")
        await pilot.settle()
        assert len(listed(screen)) == len(wrong)


async def test_keys_that_come_while_a_list_is_made_all_count(link, found, monkeypatch: pytest.MonkeyPatch) -> None:
    select = Listing.select

    def slowly(self: Listing, *arguments: object) -> Listing:
        time.sleep(0.1)
        return select(self, *arguments)

    app = FinetuiApp(link)
    async with open_app(app, size=(120, 40)) as pilot:
        screen = await opened(pilot)
        monkeypatch.setattr(Listing, "select", slowly)
        await pilot.press("v", "v", "v", "O", "R")
        await pilot.settle()
        selection = screen._listing.selection
        assert (selection.show, selection.sort, selection.reverse) == ("all", "confidence", True)


async def test_nothing_that_fits_is_said(link) -> None:
    app = FinetuiApp(link)
    async with open_app(app, size=(80, 24)) as pilot:
        screen = await opened(pilot)
        await pilot.press("*")
        await pilot.settle()
        assert listed(screen) == []
        assert "no image matches the filter" in picture(app)
        await pilot.press("space", "enter", "i", "right", "escape", "escape", "escape")
        await pilot.settle()
        assert listed(screen)


async def test_explanations_follow_the_cursor_and_refusals_are_said(link, found) -> None:
    app = FinetuiApp(link)
    async with open_app(app, size=(120, 40)) as pilot:
        screen = await opened(pilot)
        await pilot.press("i")
        await pilot.until(lambda: "Grad-CAM at conv2" in picture(app))
        assert f"■ for {found.predicted[listed(screen)[0]]}  ■ against" in picture(app)
        row = listed(screen)[0]
        (question,) = link.asked(ExplainImage)
        assert (question.index, question.method, question.target) == (row, "grad-cam", found.predicted[row])
        assert screen.query_one(Picture)._overlay is not None
        await pilot.press("right", "right")
        await pilot.until(lambda: len(link.asked(ExplainImage)) > 1)
        assert [asked.index for asked in link.asked(ExplainImage)] == [row, listed(screen)[2]]  # not the one passed by
        await pilot.press("i", "i")
        await pilot.until(lambda: "it cannot be occluded" in picture(app))
        assert screen.query_one(Picture)._overlay is None
        await pilot.press("i")
        await pilot.settle()
        assert "occluded" not in picture(app)


async def test_enter_gives_the_image_the_whole_screen_and_arrows_go_on(link) -> None:
    app = FinetuiApp(link)
    async with open_app(app, size=(80, 24)) as pilot:
        screen = await opened(pilot)
        await pilot.press("enter")
        await pilot.settle()
        assert not screen.query_one(ThumbnailGrid).display
        assert screen.query_one(DetailPane).size.width > 70
        await pilot.press("right")
        await pilot.settle()
        assert f"test image {listed(screen)[1]}" in picture(app)
        await pilot.press("escape")
        await pilot.settle()
        assert screen.query_one(ThumbnailGrid).display
        await pilot.press("right")
        await pilot.settle()
        assert f"test image {listed(screen)[2]}" in picture(app)
        await pilot.press("escape")
        await pilot.settle()
        assert not isinstance(app.screen, ErrorsScreen)


async def test_a_click_on_a_class_opens_its_mistakes_and_so_does_enter(link, found) -> None:
    app = FinetuiApp(link)
    async with open_app(app, size=(120, 40)) as pilot:
        await pilot.settle()
        await pilot.click("#class-rows", offset=(3, 4))  # all have as many mistakes: they stand in their order
        await pilot.settle()
        screen = app.screen
        assert isinstance(screen, ErrorsScreen)
        assert listed(screen) == by_loss(found, np.flatnonzero(found.wrong & (found.label == 4)))
        assert "true 4" in line(screen, "filter")
        await pilot.press("escape")
        await pilot.settle()
        app.screen.query_one(PerClassTable).query_one("#class-rows").focus()
        await pilot.press("down", "enter")
        await pilot.settle()
        assert isinstance(app.screen, ErrorsScreen)
        assert app.screen._listing.selection.true == 5


@pytest.mark.parametrize("size", SIZES)
async def test_hostile_names_do_no_harm(tmp_path: Path, size) -> None:
    paths = tuple(f"/data/[red]{i}\x1b[2J\u202e漢字/{'x' * 200}.png" for i in range(200))
    saved(tmp_path, predictions(classes=HOSTILE, paths=paths))
    app = FinetuiApp(AnsweringLink(*events_of(tmp_path, HOSTILE)))
    async with open_app(app, size=size) as pilot:
        screen = await opened(pilot)
        for keys in (["v"], ["i"], ["enter"], ["escape"], ["right", "right"], ["space"], ["!"]):
            await pilot.press(*keys)
            await pilot.settle()
            strips = app.screen._compositor.render_strips()
            assert {strip.cell_length for strip in strips} == {size[0]}
            assert not set("\x1b\u202e\u200b") & set("".join(strip.text for strip in strips))
        assert screen._listing is not None


async def test_help_names_every_key_of_the_screen(link) -> None:
    app = FinetuiApp(link)
    async with open_app(app, size=(120, 50)) as pilot:
        screen = await opened(pilot)
        await pilot.press("question_mark")
        await pilot.settle()
        assert isinstance(app.screen, HelpScreen)
        lines = {key for key, _ in told(screen)}
        for binding in screen.BINDINGS:
            assert binding.key in MOVES or binding.key_display in lines or "," in binding.key, binding.key


async def test_escape_goes_back_one_level_at_a_time(link, found) -> None:
    app = FinetuiApp(link)
    async with open_app(app, size=(120, 40)) as pilot:
        screen = await opened(pilot)
        grid = screen.query_one(ThumbnailGrid)
        await pilot.press("!", "enter", "i")
        assert screen._detail.method
        await pilot.press("escape")
        assert not screen._detail.method
        assert not grid.display
        await pilot.press("escape")
        assert grid.display
        assert screen._listing.selection.label_errors
        await pilot.press("escape")
        await pilot.settle()
        assert listed(screen) == by_loss(found, np.flatnonzero(found.wrong))
        assert app.screen is screen
        await pilot.press("escape")
        await pilot.settle()
        assert not isinstance(app.screen, ErrorsScreen)


async def test_a_class_that_it_began_with_is_no_filter_to_be_cleared(link) -> None:
    app = FinetuiApp(link, errors=lambda classes: Selection(true=2))
    async with open_app(app, size=(120, 40)) as pilot:
        await pilot.settle()
        screen = app.screen
        await pilot.press("4")
        await pilot.settle()
        assert screen._listing.selection == Selection(show="all", true=2)
        await pilot.press("escape")
        await pilot.settle()
        assert screen._listing.selection == Selection(true=2)
        assert "esc clears" not in line(screen, "filter")
        await pilot.press("escape")
        await pilot.settle()
        assert not isinstance(app.screen, ErrorsScreen)


async def test_a_click_on_a_tab_lists_its_images(link, found) -> None:
    app = FinetuiApp(link)
    async with open_app(app, size=(120, 40)) as pilot:
        screen = await opened(pilot)
        text = line(screen, "filter")
        await pilot.click("#errors-filter", offset=(text.index("correct"), 0))
        await pilot.settle()
        assert listed(screen) == by_loss(found, np.flatnonzero(~found.wrong))


async def test_the_palette_opens_it(link) -> None:
    app = FinetuiApp(link)
    async with open_app(app, size=(120, 40)) as pilot:
        await pilot.settle()
        command = next(c for c in app.get_system_commands(app.screen) if c.title == "Errors")
        await command.callback()
        await pilot.settle()
        assert isinstance(app.screen, ErrorsScreen)


async def test_it_can_be_the_first_screen(link) -> None:
    app = FinetuiApp(link, errors=lambda classes: Selection(show="all", true=classes.index("2")))
    async with open_app(app, size=(120, 40)) as pilot:
        await pilot.settle()
        assert isinstance(app.screen, ErrorsScreen)
        assert app.screen._listing.selection == Selection(show="all", true=2)


async def test_colours_are_not_needed(link) -> None:
    app = FinetuiApp(link, image_mode="ascii")
    async with open_app(app, size=(120, 40)) as pilot:
        screen = await opened(pilot)
        await pilot.press("v", "v", "v", "O", "O", "O")  # all, in order: greys from 0 on
        await pilot.settle()
        text = picture(app)
        assert "▀" not in text
        assert listed(screen)[0] == 0
        await pilot.press("end")
        await pilot.settle()
        assert "#" * 14 in picture(app) or "*" * 14 in picture(app)


def test_a_caption_is_content_that_parses_no_markup() -> None:
    assert Content("[bold]x").plain == "[bold]x"
