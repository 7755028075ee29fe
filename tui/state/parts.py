"""Words for the parts of a data set: how large they are, and which of them a number is of."""

from finetui.engine.predictions.interval import accuracy_words
from finetui.engine.protocol.events import DataSummary, Evaluated, Part
from finetui.engine.text import figure_text


def sizes(data: DataSummary) -> str:
    """Return how many images there are in each part."""
    words = [f"{size:,} {'training' if part == 'train' else part}" for part, size in data.sizes.items()]
    return f"{', '.join(words[:-1])} and {words[-1]} images" if len(words) > 1 else f"{''.join(words)} images"


def scores(event: Evaluated) -> str:
    """Return loss and accuracy of an evaluation, which part they are of, and of which weights where that is to be said.

    What was chosen on the images that it is scored on is called so.
    """
    loss = () if event.loss is None else (f"loss {event.loss:.4f}",)
    accuracy = () if event.accuracy is None else (f"accuracy {event.accuracy:.2%}",)
    text = f"{event.part} {', '.join((*loss, *accuracy)) or 'evaluated'}"
    if event.figure is not None and event.best_by != "accuracy":
        text += f", {figure_text(event.best_by, event.figure)}"
    if event.checkpoint:
        return f"{text}, of the {event.checkpoint} checkpoint" + (
            ", which was chosen on val" if event.checkpoint == "best" else ""
        )
    return text + (f", the best so far (chosen on {event.part})" if event.best else "")


def last_and_best(
    last: Evaluated | None, best: float | None, test: Evaluated | None = None, part: Part = "test"
) -> str:
    """Return the accuracy of the last evaluation, of the best one (both on `part`), and that on test, as a phrase.

    Empty where nothing was evaluated.
    """
    if last is None:
        return "" if best is None else f"best accuracy {best:.2%}, chosen on {part}"
    words = [f"{last.part} accuracy {accuracy_words(last.accuracy, last.n)}"]
    if best is not None and best != last.accuracy:
        by = "" if last.best_by == "accuracy" else f" by {last.best_by}"
        words.append(f"best {best:.2%} chosen on {last.part}{by}")
    if test is not None:
        of = f" of the {test.checkpoint} checkpoint" if test.checkpoint else ""
        words.append(f"test accuracy {accuracy_words(test.accuracy, test.n)}{of}")
    return ", ".join(words)
