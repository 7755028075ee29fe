"""What the Errors screen says in words: titles, captions, details."""

from pathlib import Path

from textual.content import Content

from finetui.engine.predictions.criteria import CHANGE_WORDS, LabelFilter, Selection
from finetui.engine.predictions.file import Predictions
from finetui.engine.predictions.interval import wilson
from finetui.engine.predictions.label_errors import label_quality
from finetui.engine.protocol.commands import Evaluate
from finetui.engine.runs.folder import RunFolder
from finetui.engine.text import clean
from finetui.tui.keys import KEYS
from finetui.tui.state.empty import no_classes
from finetui.tui.state.listing import SHOWN_TOP, Listing, Tab, image_name
from finetui.tui.state.view import View
from finetui.tui.widgets.fitting import Part, fitting, kept

_TABS: dict[str, str] = {"wrong": "mistakes", "unsure": "unsure", "right": "correct", "all": "all", **CHANGE_WORDS}
_HEADINGS = {
    "wrong": "Misclassified {part} images",
    "unsure": "Correct but unsure {part} images",
    "right": "Correctly classified {part} images",
    "all": "All {part} images",
    "fixed": "Fixed {part} images",
    "broken": "Newly wrong {part} images",
    "still-wrong": "Still misclassified {part} images",
    "other-class": "Differently classified {part} images",
}
_BY: dict[LabelFilter, str] = {
    "confident-learning": "possible label errors",
    "prune-by-noise-rate": "possible label errors by noise rate",
}
_ORDERS = {
    "loss": ("highest loss first", "lowest loss first"),
    "confidence": ("most confident first", "least confident first"),
    "margin": ("lowest margin first", "highest margin first"),
    "index": ("in order", "in reverse order"),
}
_LEAST_BAR = 4  # cells
_QUALITY = ("lowest label quality first", "highest label quality first")  # the loss, turned round


def title(listing: Listing, marked: int, width: int) -> Content:
    """Return a line of `width` cells: what is listed, how many of all images are wrong, and of which evaluation.

    Where there is room, also the share that is correct with its interval.
    """
    found, selection = listing.predictions, listing.selection
    total, wrong = len(found), int(found.wrong.sum())
    right = 1 - wrong / max(total, 1)
    low, high = wilson(right, total)
    head = _HEADINGS[selection.change or selection.show].format(part=found.origin.part)
    origin = f"{clean(found.origin.run)}{f' step {found.origin.step:,}' if found.origin.step else ''}".strip()
    parts = [
        Part(Content.styled(head, "bold $accent"), 0),
        Part(Content(f"{wrong:,} of {total:,} wrong"), 1),
        Part(Content.styled(f"·  {right:.2%} correct", "$muted"), 4),
        Part(Content.styled(f"(95% CI {100 * low:.2f} to {high:.2%})", "$muted"), 5),
        *([Part(Content.styled(f"·  {marked:,} marked", "$success"), 2)] if marked else []),
        *([Part(Content.styled(f"·  {origin}", "$muted"), 3)] if origin else []),
    ]
    return Content.assemble(" ", fitting(parts, width - 2))


def tab_words(tab: Tab) -> Content:
    """Return what a tab says: its kind, and how many there are."""
    (kind,) = tab.changes.values()
    name = f" {_TABS[kind]} "
    if tab.chosen:
        return Content.styled(f"{name}{tab.number:,} ", "bold $on-selection on $selection")
    return Content.assemble((name, "$muted"), f"{tab.number:,} ")


def before_tabs(listing: Listing) -> Content:
    """Return what stands before the tabs: what is compared with."""
    if not listing.selection.change:
        return Content("")
    return Content.assemble((" vs ", "$muted"), (f"{clean(listing.compared)} ", "bold"))


def after_tabs(listing: Listing, width: int, *, clears: bool) -> Content:
    """Return what stands behind the tabs: filters, the net change, order, and what is to be known of the images.

    But for the filters, what has no room in `width` cells is left out. With `clears` it says that Escape takes the
    filters away.
    """
    selection, found = listing.selection, listing.predictions
    parts = _filters(selection, found.classes)
    tested = listing.mcnemar() if selection.change else None
    words = _QUALITY if selection.label_errors and selection.sort == "loss" else _ORDERS[selection.sort]
    flagged = listing.label_errors
    number = 0 if flagged is None or selection.label_errors else int(flagged.sum())
    of_all = f"{number:,} possible label error{'s' if number != 1 else ''} ({KEYS['label_errors'].face})"
    shown = [Part(Content.styled(" + ".join(parts), "bold"), -1)]
    if tested is not None:
        shown.append(Part(Content.styled(tested.net(), "bold $accent"), 0))
        shown.append(Part(Content.styled(f"McNemar {tested.p_words()}", "$accent"), 2))
    shown += [Part(Content.styled(f"·  {clean(notice, 300)}", "$warning"), 1) for notice in found.origin.notices]
    shown.append(Part(Content.styled(f"·  {words[selection.reverse]}", "$muted"), 4))
    shown += [Part(Content.styled("·  esc clears", "$muted"), 3)] if clears else []
    shown += [Part(Content.styled(f"·  {of_all}", "$muted"), 5)] if number else []
    gap = "  "
    first, *rest = kept(shown, width - (len(gap) if parts else 0) - 1, len(gap))
    return Content("").join([Content.assemble(gap, part.text) for part in ([first] if parts else []) + rest])


def _filters(selection: Selection, classes: tuple[str, ...]) -> list[str]:
    parts = []
    if selection.true is not None:
        parts.append(f"true {classes[selection.true]}")
    if selection.predicted is not None:
        parts.append(f"predicted {classes[selection.predicted]}")
    if selection.low > 0 or selection.high < 1:
        parts.append(f"confidence {selection.low:.0%} to {selection.high:.0%}")
    if selection.text:
        parts.append(f"path contains {clean(selection.text, 40)!r}")
    if selection.label_errors is not None:
        parts.append(_BY[selection.label_errors])
    flags = ((selection.duplicates, "in the training set"), (selection.marked, "marked"))
    return parts + [words for wanted, words in flags if wanted]


def caption(listing: Listing, row: int) -> tuple[tuple[Content, ...], tuple[Content, ...]]:
    """Return two short lines, and the same in three: true and predicted class, and how sure the network is.

    A sign stands for each flag. In a comparison, what the other predicted is there where that was another class.
    """
    found = listing.predictions
    classes, wrong = found.classes, found.label[row] != found.predicted[row]
    true, predicted = classes[found.label[row]], classes[found.predicted[row]]
    signs = "".join(sign for sign, holds in zip("?=", _flags(listing, row), strict=True) if holds)
    flags = (f" {signs}" if signs else "", "$warning")
    other = _other_class(listing, row)
    against = f"vs {other}" if other not in ("", predicted) else ""
    share = f"{found.confidence[row]:.0%}"
    sure = Content.assemble((f"{share} {against}".rstrip(), "$muted"), flags)
    last = Content.assemble((against or share, "$muted"), flags)
    if not wrong:
        return (Content(true), sure), (Content(true), Content(""), last)
    arrow = Content.assemble(("→ ", "$muted"), (predicted, "$error"))
    return (Content.assemble(true, " ", arrow), sure), (Content(true), arrow, last)


def caption_widths(listing: Listing) -> tuple[int, int]:
    """Return how wide the widest line of a caption may be, and the widest of those that take several lines."""
    *_, second, first = 0, 0, *sorted(Content(name).cell_length for name in listing.predictions.classes)
    two = first + len(" → ") + second
    return (two if listing.flags.comparison is None else max(two, len("100% vs  ?=") + first)), first + len("→ ")


def _other_class(listing: Listing, row: int) -> str:
    """Return the class that what is compared with predicted; empty where nothing is, or not of that image."""
    comparison = listing.flags.comparison
    if comparison is None or not comparison.paired[row]:
        return ""
    return str(comparison.other.classes[comparison.other.predicted[comparison.rows[row]]])


def _flags(listing: Listing, row: int) -> tuple[bool, bool]:
    label_errors, duplicates = listing.label_errors, listing.duplicates or {}
    return label_errors is not None and bool(label_errors[row]), row in duplicates


def brief_details(
    listing: Listing, row: int, width: int, *, marked: bool, explained: tuple[Content, ...] = ()
) -> list[Content]:
    """Return the most important of `details`, in seven lines: the likeliest classes say which is the predicted one."""
    found = listing.predictions
    signs = "".join(sign for sign, holds in zip("?=●", (*_flags(listing, row), marked), strict=True) if holds)
    unseen = found.label[row] not in [label for label, _ in found.top(row)[:SHOWN_TOP]]
    true = Content.assemble((" ✓ ", "$success"), found.classes[found.label[row]]) if unseen else Content("")
    true = true.truncate(max(width // 2, 1), ellipsis=True)
    flags = f" {signs}" if signs else ""
    name = end_of(image_name(found, row), width - len(flags) - true.cell_length)
    first = Content.assemble((name, "bold"), (flags, "$warning"), true)
    second = explained or (_numbers(found, row),)
    return [line.truncate(width, ellipsis=True) for line in (first, *second, *top_lines(found, row, width))]


def _numbers(found: Predictions, row: int) -> Content:
    return Content.assemble(
        ("loss ", "$muted"), f"{found.loss[row]:.3f}", ("  margin ", "$muted"), f"{found.margin[row]:+.3f}"
    )


def details(
    listing: Listing, row: int, width: int, *, marked: bool, explained: tuple[Content, ...] = ()
) -> list[Content]:
    """Return everything about `row`, in lines of at most `width` cells; `explained` says what the overlay is."""
    found = listing.predictions
    classes = found.classes
    wrong = found.label[row] != found.predicted[row]
    lines = [
        Content(end_of(image_name(found, row), width)).stylize("bold"),
        Content.assemble(("true      ", "$muted"), classes[found.label[row]]),
        Content.assemble(("predicted ", "$muted"), (classes[found.predicted[row]], "$error" if wrong else "$success")),
        _numbers(found, row),
    ]
    possible, duplicate = _flags(listing, row)
    if possible:
        place, number = listing.label_error_rank(row)
        quality = f"  no. {place:,} of {number:,} by label quality ({float(label_quality(found.loss[row])):.2g})"
        lines += [Content.styled("? possible label error", "$warning"), Content.styled(quality, "$muted")]
    if duplicate:
        lines.append(Content.styled(f"= {end_of(listing.training_image(row), width - 2)}", "$warning"))
    comparison = listing.flags.comparison
    if comparison is not None and comparison.paired[row]:
        before, at = comparison.other, comparison.rows[row]
        was = f"{before.classes[before.predicted[at]]}, {before.confidence[at]:.1%}"
        lines.append(Content.assemble((f"{clean(listing.compared)}: ", "$muted"), was))
    if marked:
        lines.append(Content.styled("● marked", "$success"))
    lines += explained
    folded = [part for line in lines for part in line.wrap(max(width, 1))]
    return [*folded, Content(""), *top_lines(found, row, width)]


def legend(method: str, place: str, target: str, *, shades: bool) -> tuple[Content, ...]:
    """Return two lines about an explanation: the `method` and its `place`, and what its colours say of `target`."""
    first = Content.styled(f"{method}{place}", "$accent")
    signs = (("reverse", "reverse"), ("underlined", "underline")) if shades else (("■", "$for"), ("■", "$against"))
    (for_, for_style), (against, against_style) = signs
    return first, Content.assemble(
        (for_, for_style), f" for {target}  ", (against, against_style), f" against {target}"
    )


def top_lines(found: Predictions, row: int, width: int) -> list[Content]:
    """Return the likeliest classes of `row` with bars; the true class is marked by its sign and its colour."""
    top = found.top(row)[:SHOWN_TOP]
    longest = max(Content(found.classes[label]).cell_length for label, _ in top)
    label_width = max(4, min(longest, width - _LEAST_BAR - 9))
    bar = max(width - label_width - 9, 1)
    lines = []
    for label, probability in top:
        true = label == found.label[row]
        full = round(probability * bar)
        lines.append(
            Content.assemble(
                ("✓ " if true else "  ", "$success"),
                Content(found.classes[label]).truncate(label_width, ellipsis=True, pad=True),
                " ",
                ("━" * full, "$success" if true else "$bar"),
                ("─" * (bar - full), "$frame"),
                f"{probability:>6.1%}",
            )
        )
    return lines


def waiting(view: View) -> str:
    """Return why there is nothing to list yet."""
    if view.refusal is not None and isinstance(view.refusal.command, Evaluate):
        return view.refusal.reason
    if view.phase is not None:
        share = f" {view.phase.done:,} of {view.phase.total:,}" if view.phase.total else "…"
        return f"{view.phase.name}{share}"
    return no_classes(view, "mistakes")


def no_predictions(view: View) -> str:
    """Return why an evaluation that there was has no images to list, and what would change that."""
    if view.hparams is not None:
        return no_classes(view, "predictions")
    run = RunFolder(Path(view.path)).argument if view.path else "RUN"
    return f"The predictions of this evaluation were not saved; `finetui errors {run}` computes them."


def loading(view: View) -> str:
    """Return why an image is not there yet: what the engine says that it does, where it says so."""
    return "Loading images…" if view.phase is None or not view.phase.name else f"{view.phase.name}…"


def end_of(name: str, width: int) -> str:
    """Return `name`, without its beginning where it is too long: the end tells files apart."""
    if Content(name).cell_length <= width:
        return name
    while name and Content(name).cell_length > width - 1:
        name = name[1:]
    return f"…{name}"
