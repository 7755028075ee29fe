"""What the Errors screen says in words: titles, captions, details."""

from textual.content import Content

from finetui.engine.predictions.criteria import LabelFilter
from finetui.engine.predictions.file import Predictions
from finetui.engine.predictions.interval import wilson
from finetui.engine.text import clean
from finetui.tui.state.listing import SHOWN_TOP, Listing, image_name

_SHOWS = {"wrong": "mistakes", "unsure": "right but unsure", "right": "right", "all": "all images"}

_BY: dict[LabelFilter, str] = {
    "confident-learning": "label possibly wrong",
    "prune-by-noise-rate": "label possibly wrong by noise rate",
}
_ORDERS = {
    "loss": ("highest loss first", "lowest loss first"),
    "confidence": ("most confident first", "least confident first"),
    "margin": ("lowest margin first", "highest margin first"),
    "index": ("in order", "in reverse order"),
}


def title(listing: Listing, marked: int, *, interval: bool = True) -> Content:
    """Return one line: how many are listed, of how many, and how many of these are wrong.

    With `interval` also the share that is right, and its interval.
    """
    found = listing.predictions
    total, wrong = len(found), int(found.wrong.sum())
    right = 1 - wrong / max(total, 1)
    low, high = wilson(right, total)
    return Content.assemble(
        (" Errors", "bold $accent"),
        (f"  {found.origin.part}", "bold"),
        f"  {len(listing.rows):,} listed",
        (f"  ·  {wrong:,} of {total:,} wrong", "$muted"),
        (f", {right:.2%} right (95% CI {100 * low:.2f} to {high:.2%})" if interval else "", "$muted"),
        (f"  ·  {marked:,} marked" if marked else "", "$success"),
        (f"  ·  {clean(found.origin.run)}" if found.origin.run else "", "$muted"),
        (f" step {found.origin.step:,}" if found.origin.step else "", "$muted"),
    )


def filter_line(listing: Listing) -> Content:
    """Return one line: the filters that are in force, the order, and what is to be known of the images."""
    selection, classes = listing.selection, listing.predictions.classes
    parts = [_SHOWS[selection.show]]
    if selection.change:
        parts = [f"{selection.change.replace('-', ' ')} since {clean(listing.compared)}"]
    if selection.true is not None:
        parts.append(f"true {classes[selection.true]}")
    if selection.predicted is not None:
        parts.append(f"predicted {classes[selection.predicted]}")
    if selection.low > 0 or selection.high < 1:
        parts.append(f"confidence {selection.low:.0%} to {selection.high:.0%}")
    if selection.text:
        parts.append(f"path has {clean(selection.text, 40)!r}")
    if selection.label_errors is not None:
        parts.append(_BY[selection.label_errors])
    flags = ((selection.duplicates, "in the training set"), (selection.marked, "marked"))
    parts += [words for wanted, words in flags if wanted]
    tested = listing.mcnemar() if selection.change else None
    order = _ORDERS[selection.sort][selection.reverse]
    return Content.assemble(
        " ",
        (" + ".join(parts), "bold" if selection.is_filtered else ""),
        (f"  ·  {tested.brief()}" if tested is not None else "", "$accent"),
        (f"  ·  {order}", "$muted"),
        ("  ·  c clears" if selection.is_filtered else "", "$muted"),
        *((f"  ·  {clean(notice, 300)}", "$warning") for notice in listing.predictions.origin.notices),
    )


def caption(listing: Listing, row: int) -> tuple[Content, Content]:
    """Return two short lines: true and predicted class, and how sure the network is, with a sign for each flag."""
    found = listing.predictions
    classes, wrong = found.classes, found.label[row] != found.predicted[row]
    true, predicted = classes[found.label[row]], classes[found.predicted[row]]
    first = Content.assemble(true, (" → ", "$muted"), (predicted, "$error")) if wrong else Content(true)
    signs = "".join(sign for sign, holds in zip("?=", _flags(listing, row), strict=True) if holds)
    return first, Content.assemble(
        (f"{found.confidence[row]:.0%}", "$muted"), (f" {signs}" if signs else "", "$warning")
    )


def _flags(listing: Listing, row: int) -> tuple[bool, bool]:
    label_errors, duplicates = listing.label_errors, listing.duplicates or {}
    return label_errors is not None and bool(label_errors[row]), row in duplicates


def brief_details(listing: Listing, row: int, width: int, *, marked: bool, explained: str) -> list[Content]:
    """Return the most important of `details`, in seven lines: the likeliest classes say which is the predicted one."""
    found = listing.predictions
    signs = "".join(sign for sign, holds in zip("?=●", (*_flags(listing, row), marked), strict=True) if holds)
    unseen = found.label[row] not in [label for label, _ in found.top(row)[:SHOWN_TOP]]
    true = Content.assemble(("  true ", "$muted"), found.classes[found.label[row]]) if unseen else Content("")
    true = true.truncate(max(width // 2, 1), ellipsis=True)
    name = end_of(image_name(found, row), width - len(signs) - 1 - true.cell_length)
    numbers = Content.assemble(
        ("loss ", "$muted"), f"{found.loss[row]:.3f}", ("  margin ", "$muted"), f"{found.margin[row]:+.3f}"
    )
    second = Content.styled(clean(explained, 300), "$accent") if explained else numbers
    lines = [Content.assemble((name, "bold"), (f" {signs}", "$warning"), true), second, *top_lines(found, row, width)]
    return [line.truncate(width, ellipsis=True) for line in lines]


def details(listing: Listing, row: int, width: int, *, marked: bool, explained: str) -> list[Content]:
    """Return everything about `row`, in lines of at most `width` cells; `explained` says what the overlay is."""
    found = listing.predictions
    classes = found.classes
    wrong = found.label[row] != found.predicted[row]
    lines = [
        Content(end_of(image_name(found, row), width)).stylize("bold"),
        Content.assemble(("true      ", "$muted"), classes[found.label[row]]),
        Content.assemble(("predicted ", "$muted"), (classes[found.predicted[row]], "$error" if wrong else "$success")),
        Content.assemble(
            ("loss ", "$muted"), f"{found.loss[row]:.3f}", ("  margin ", "$muted"), f"{found.margin[row]:+.3f}"
        ),
    ]
    possibly_wrong, duplicate = _flags(listing, row)
    if possibly_wrong:
        lines.append(Content.styled("? possibly a wrong label", "$warning"))
    if duplicate:
        lines.append(Content.styled(f"= {end_of(listing.training_image(row), width - 2)}", "$warning"))
    comparison = listing.flags.comparison
    if comparison is not None and comparison.paired[row]:
        before, at = comparison.other, comparison.rows[row]
        was = f"{before.classes[before.predicted[at]]}, {before.confidence[at]:.1%}"
        lines.append(Content.assemble((f"{clean(listing.compared)}: ", "$muted"), was))
    if marked:
        lines.append(Content.styled("● marked", "$success"))
    if explained:
        lines.append(Content.styled(clean(explained, 300), "$accent"))
    lines.append(Content(""))
    lines += top_lines(found, row, width)
    return [line.truncate(width, ellipsis=True) for line in lines]


def top_lines(found: Predictions, row: int, width: int) -> list[Content]:
    """Return the likeliest classes of `row` with bars; the true class is marked by its sign and its colour."""
    top = found.top(row)[:SHOWN_TOP]
    label_width = max(4, min(max(Content(found.classes[label]).cell_length for label, _ in top), width // 3))
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


def end_of(name: str, width: int) -> str:
    """Return `name`, without its beginning where it is too long: the end tells files apart."""
    if Content(name).cell_length <= width:
        return name
    while name and Content(name).cell_length > width - 1:
        name = name[1:]
    return f"…{name}"
