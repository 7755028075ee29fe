"""What the Errors screen lists, and how one chooses it: the part that is the same however it is shown."""

import asyncio
from abc import abstractmethod
from collections.abc import Callable
from functools import reduce
from pathlib import Path

import msgspec
from textual import work

from finetui.engine.errors import BadInput, FinetuiError
from finetui.engine.predictions.criteria import CHANGES, LABEL_FILTERS, SHOWS, SORTS, Choose, Selection
from finetui.engine.predictions.file import load_predictions
from finetui.engine.protocol.commands import AnyCommand, Evaluate, ExplainImage, FindDuplicates
from finetui.engine.protocol.events import CommandRefused, DuplicatesFound, Evaluated
from finetui.engine.protocol.values import AnyPart
from finetui.tui.keys import KEYS
from finetui.tui.queries.asker import Asker, Reply
from finetui.tui.queries.image_cache import fetch_all
from finetui.tui.screens.base import Screen
from finetui.tui.screens.errors.text import no_predictions, waiting
from finetui.tui.screens.run_chosen import Differing
from finetui.tui.screens.toast import ShowToast
from finetui.tui.state.export import Target, export
from finetui.tui.state.listing import Listing, listing_of, told_duplicates, with_duplicates
from finetui.tui.state.store import Store

_POLL_SECONDS = 0.25
_MOST_COMPARED = 200_000  # images among which duplicates are looked for without being asked

# What keys ask the run for, by their names in the key map.
_ASKED: dict[str, type[AnyCommand]] = {"evaluate": Evaluate, "explain": ExplainImage, "duplicates": FindDuplicates}

Change = Callable[[Listing, frozenset[int]], Listing]  # from a list and the marked rows to another list


class ListingScreen(Screen[None]):
    """Works out the list away from the event loop, and asks for filters, a comparison and exports."""

    def __init__(
        self, store: Store, asker: Asker, choose: Choose, part: AnyPart = "", differing: Differing | None = None
    ) -> None:
        """List first what `choose` says of `part` of the run in `store`; empty: what is evaluated while training.

        With `differing`, list first what these two are not equally right about.
        """
        super().__init__()
        self._store = store
        self._asker = asker.heard_while(lambda: self.stands)
        self._choose_first = choose
        self._differing = differing
        self._turn = asyncio.Lock()
        self._changes: list[Change] = []  # what is asked for meanwhile is worked out next, from what came out
        self._listing: Listing | None = None
        self._evaluation: Evaluated | None = None  # the one that is shown
        self._part = part
        self._marked: set[int] = set()
        self._evaluates = False  # on request
        self._base = Selection()  # what was listed first
        self._in_cell: tuple[tuple[int, int], Selection] | None = None  # of the matrix, and what was listed before
        self._looked_for_duplicates = False
        self._duplicates: DuplicatesFound | None = None  # the images here that are training images

    @abstractmethod
    def _listing_changed(self, *, same_rows: bool) -> None:
        """Show the list, which is another, or the same rows with more known of them."""

    @abstractmethod
    def _part_changed(self, part: AnyPart) -> None:
        """Forget the images of another part."""

    @abstractmethod
    def _say(self, text: str) -> None:
        """Show `text` in place of a list."""

    @abstractmethod
    def _show_lines(self) -> None:
        """Show what is said about the list, in place of a hint."""

    @abstractmethod
    def _hint(self, text: str) -> None:
        """Show `text` beside the list."""

    # -- what is listed -------------------------------------------------------------------------------------

    def follow_evaluations(self) -> None:
        """Open the newest predictions, and say when there are newer ones."""
        self.set_interval(_POLL_SECONDS, self._look_for_newer)
        self.action_newest()

    def action_newest(self) -> None:
        """Show the predictions of the newest evaluation."""
        view = self._store.view
        found = view.evaluation_of(self._part or view.watched)
        self._evaluation = found
        self._evaluates = self._evaluates and found is None
        if found is None:
            self._say("Evaluating…" if self._evaluates and view.phase is None else waiting(view))
        elif not found.predictions:
            self._say(no_predictions(view))
        else:
            self._open(Path(view.path) / found.predictions)

    def action_part(self) -> None:
        """Show the other part that is held out; have it evaluated where it was not yet."""
        part = self._store.view.other_part(self._part)
        if part is None:
            return
        self._part, self._evaluation = part, None
        if self._store.view.evaluation_of(part) is None:
            before = self._listing.predictions.origin.part if self._listing is not None else ""
            self._hint(f"evaluating the {part} images…")
            self._asker.ask(Evaluate(part=part), lambda reply: self._not_evaluated(reply, before))
        else:
            self.action_newest()

    def _not_evaluated(self, reply: Reply, before: AnyPart) -> None:
        """Stay with the part that was shown before."""
        if isinstance(reply, CommandRefused):
            words = f"cannot show the {self._part} images: {reply.reason}"
            self._part = before
            self._evaluation = self._store.view.evaluation_of(before or self._store.view.watched)
            self._tell(words)

    def _opened(self, path: Path) -> Listing:
        if self._listing is None and self._differing is not None:
            path, other = self._differing
            found = load_predictions(path)
            listing = listing_of(found, self._choose_first(found.classes)).compare(other, "broken", ())
            self._base = listing.selection
            return listing
        found = load_predictions(path)
        if self._listing is None:
            selection = self._base = self._choose_first(found.classes)
        else:
            selection = msgspec.structs.replace(self._listing.selection, change="", marked=False)
        listing = listing_of(found, selection)
        if self._listing is not None and self._listing.predictions.origin.part != found.origin.part:
            return listing
        return listing if self._duplicates is None else with_duplicates(listing, self._duplicates, ())

    def _look_for_newer(self) -> None:
        view = self._store.view
        newest = view.evaluation_of(self._part or view.watched)
        if self._evaluation is None and (self._listing is None or newest is not None):
            self.action_newest()
        elif newest is not self._evaluation and self._listing is not None:
            self._hint("newer evaluation available: press N")

    @work(group="list", exit_on_error=False)
    async def _open(self, path: Path) -> None:
        async with self._turn:
            await self._work_out(lambda: self._opened(path))

    def _relist(self, change: Change) -> None:
        """Show what `change` makes of the list, and of the marks, that there are once it is its turn."""
        self._changes.append(change)
        self._catch_up()

    @work(group="list", exit_on_error=False)
    async def _catch_up(self) -> None:
        async with self._turn:
            changes, self._changes = self._changes, []  # all at once: a key that is held makes many
            listing, marked = self._listing, frozenset(self._marked)
            if listing is not None and changes:
                await self._work_out(lambda: reduce(lambda now, change: change(now, marked), changes, listing))

    async def _work_out(self, make: Callable[[], Listing]) -> None:
        """Make a listing away from the event loop, and show it."""
        try:
            listing = await asyncio.to_thread(make)
        except BadInput as error:
            self._tell(str(error))
        else:
            self._show_listing(listing)

    def _tell(self, reason: str) -> None:
        if not self.stands:
            return
        if self._listing is None:
            self._say(reason)
        else:
            self._hint(reason)

    def _show_listing(self, listing: Listing) -> None:
        if not self.stands:
            return
        same_rows = self._listing is not None and self._listing.rows is listing.rows
        if self._listing is None or self._listing.predictions is not listing.predictions:
            self._marked.clear()
        if self._listing is None or self._listing.predictions.origin.part != listing.predictions.origin.part:
            self._looked_for_duplicates, self._duplicates = False, None
            self._part_changed(listing.predictions.origin.part)
        self._listing = listing
        self._listing_changed(same_rows=same_rows)

    def why_not(self, action: str, parameters: tuple[object, ...]) -> str:
        """What the run does not answer now cannot be asked."""
        if action == "part":
            return self._store.view.why_not_part(self._part)
        looks_for = parameters == ("duplicates",) and self._duplicates is None
        name = "duplicates" if looks_for else action
        reason = self._store.view.refusal_of(_ASKED[name]) if name in _ASKED else None
        return f"{KEYS[name].label}: {reason}" if reason is not None else super().why_not(action, parameters)

    def _choose(self, changes: Callable[[Selection], dict[str, object]]) -> None:
        """List what the present selection lists with what `changes` makes of it."""

        def select(listing: Listing, marked: frozenset[int]) -> Listing:
            now = listing.selection
            return listing.select(msgspec.structs.replace(now, **changes(now)), marked)

        self._relist(select)

    def _look_for_duplicates(self) -> None:
        """Ask once which of the images are in the training set, if that takes no more than a moment."""
        listing = self._listing
        if not self._looked_for_duplicates and listing is not None and len(listing.predictions) <= _MOST_COMPARED:
            self._looked_for_duplicates = True
            if self._store.view.never(FindDuplicates):
                return  # whoever asks for them is told why not
            self._asker.ask(FindDuplicates(part=listing.predictions.origin.part), self._duplicates_found)

    def _duplicates_found(self, reply: Reply) -> None:
        asked = reply.command
        if self._listing is None or not isinstance(asked, FindDuplicates):
            return
        if asked.part != self._listing.predictions.origin.part:
            return  # another part is shown by now
        if isinstance(reply, DuplicatesFound):
            self._duplicates = reply
            self._relist(lambda listing, marked: told_duplicates(listing, asked, reply, marked))
        elif isinstance(reply, CommandRefused):
            self._hint(f"not compared with training images: {reply.reason}")

    # -- choosing what is listed ----------------------------------------------------------------------------

    def action_show(self) -> None:
        """List mistakes, then correct but unsure ones, correct ones, all; or what changed in another way."""

        def next_show(now: Selection) -> dict[str, object]:
            if now.change:
                return {"change": CHANGES[CHANGES.index(now.change) % (len(CHANGES) - 1) + 1]}
            return {"show": SHOWS[(SHOWS.index(now.show) + 1) % len(SHOWS)]}

        self._choose(next_show)

    def action_order(self) -> None:
        """Order by loss, then by confidence, margin, place."""
        self._choose(lambda now: {"sort": SORTS[(SORTS.index(now.sort) + 1) % len(SORTS)], "reverse": False})

    def action_reverse(self) -> None:
        """Turn the order round."""
        self._choose(lambda now: {"reverse": not now.reverse})

    def action_toggle_flag(self, flag: str) -> None:
        """List only what has `flag`, or all again."""
        if flag == "duplicates" and self._duplicates is None and self._listing is not None:
            self._hint("looking for these images in the training set…")
            part = self._listing.predictions.origin.part
            self._asker.ask(FindDuplicates(part=part), self._duplicates_found)
        self._choose(lambda now: {flag: not getattr(now, flag)})

    def action_label_errors(self) -> None:
        """List only what possibly has a wrong label, or all again."""
        self._choose(lambda now: {"label_errors": None if now.label_errors else LABEL_FILTERS[0], "sort": "loss"})

    def action_tab(self, number: int) -> None:
        """List the kind of image that has the tab `number`, from 0."""
        if self._listing is not None and number < len(self._listing.tabs):
            changes = self._listing.tabs[number].changes
            self._choose(lambda _: dict(changes))

    def action_evaluate(self) -> None:
        """Have the part that is shown evaluated now."""
        self._evaluates = True
        self._tell("Evaluating…")
        self._asker.ask(Evaluate(part=self._part), self._refused_evaluation)

    def _refused_evaluation(self, reply: Reply) -> None:
        self._evaluates = False
        if isinstance(reply, CommandRefused):
            self._tell(f"not evaluated: {reply.reason}")

    @property
    def is_narrowed(self) -> bool:
        """Whether less is listed than at first, or something else, in whatever order."""
        if self._listing is None:
            return False
        now = self._listing.selection
        base = msgspec.structs.replace(self._base, sort=now.sort, reverse=now.reverse)
        return self._in_cell is not None or now != base

    def widen(self) -> bool:
        """Go back from a cell to the matrix, end a comparison, or take the filters away; False if there is none."""
        if self._listing is None or not self.is_narrowed:
            return False
        if self._listing.selection.change and not self._base.change:
            self._relist(lambda listing, marked: listing.uncompared(marked))
        elif self._in_cell is not None:
            cell, before = self._in_cell
            self._in_cell = None
            self._relist(lambda listing, marked: listing.select(before, marked))
            self._open_confusion(cell)
        else:
            base = self._base
            self._choose(lambda now: msgspec.structs.asdict(base) | {"sort": now.sort, "reverse": now.reverse})
        return True

    @work
    async def action_filter(self) -> None:
        """Ask what is to be listed."""
        from finetui.tui.screens.errors.filter_form import FilterForm

        listing = self._listing
        if listing is None:
            return
        form = FilterForm(
            listing.selection,
            listing.predictions.classes,
            has_files=len(listing.predictions.files) > 0,
            can_compare=listing.flags.comparison is not None,
        )
        chosen = await self.app.push_screen_wait(form)
        if chosen is not None:
            self._relist(lambda listing, marked: listing.select(chosen, marked))

    def action_confusion(self) -> None:
        """Show which classes are mistaken for which, and list the images of a cell."""
        self._open_confusion(None if self._in_cell is None else self._in_cell[0])

    @work
    async def _open_confusion(self, at: tuple[int, int] | None) -> None:
        from finetui.tui.screens.errors.confusion import ConfusionScreen

        if self._listing is None:
            return
        found = self._listing.predictions
        screen = ConfusionScreen(found.confusion(), found.classes, found.origin.part, at=at)
        cell = await self.app.push_screen_wait(screen)
        if cell is not None and self._listing is not None:
            before = self._in_cell[1] if self._in_cell is not None else self._listing.selection
            self._in_cell = cell, before
            true, predicted = (None if label < 0 else label for label in cell)
            show = "all" if true == predicted else "wrong"
            self._choose(lambda _: {"show": show, "true": true, "predicted": predicted, "change": ""})

    def action_scores(self) -> None:
        """Show what the predictions amount to, all of them together."""
        from finetui.tui.screens.errors.scores import ScoresScreen

        if self._listing is not None and len(self._listing.predictions):
            self.app.push_screen(ScoresScreen(self._listing.predictions))

    @work
    async def action_compare(self) -> None:
        """Compare with another run's or evaluation's predictions."""
        from finetui.tui.screens.errors.compare import CompareScreen

        listing = self._listing
        if listing is None:
            return
        own = Path(self._store.view.path)
        path = await self.app.push_screen_wait(CompareScreen(own.parent, own, listing.predictions))
        if path is not None:
            self._relist(lambda listing, marked: listing.compare(path, "broken", marked))

    @work
    async def action_export(self) -> None:
        """Write what is listed, or marked, to a file."""
        from finetui.tui.screens.errors.export_form import ExportForm

        listing = self._listing
        if listing is None:
            return
        marked = sorted(self._marked)
        request = await self.app.push_screen_wait(ExportForm(len(listing.rows), len(marked), Path("errors.csv")))
        if request is not None:
            rows = marked if request.marked_only else listing.rows.tolist()
            self._hint("exporting…")
            self._export(request.target, listing, rows)

    @work(thread=True, exclusive=True, group="export", exit_on_error=False)
    def _export(self, target: Target, listing: Listing, rows: list[int]) -> None:
        """Write away from the screen; images are asked for as everywhere."""
        part = listing.predictions.origin.part
        try:
            words = export(target, listing, rows, lambda indices: fetch_all(self.app, self._asker, part, indices))
        except FinetuiError as error:
            self.app.call_from_thread(self._told_export, "", str(error))
        else:
            self.app.call_from_thread(self._told_export, str(target.path.absolute()), words)

    def _told_export(self, path: str, words: str) -> None:
        """Say what was written, or, without a `path`, why nothing was."""
        if not self.stands:
            return
        self._show_lines()
        if path:
            self.app.post_message(ShowToast(f"{words} · {KEYS['copy'].shown} copy path", "export", copies=path))
        else:
            self.app.post_message(ShowToast(f"Not exported: {words}", "export", warns=True))
