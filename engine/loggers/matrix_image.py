"""A confusion matrix as a picture, for tools that have no table for it."""

from collections.abc import Sequence

from PIL import Image, ImageDraw

from finetui.engine.text import clean

_SIDE = 480  # pixels, about
_MOST_CLASSES = 500
_MOST_WRITTEN = 20  # classes whose names and counts are written out
_LIGHT, _DARK = (247, 251, 255), (8, 48, 107)


def matrix_image(confusion: Sequence[Sequence[int]], classes: Sequence[str]) -> Image.Image | None:
    """Return `confusion[true][predicted]`, counts of images, with the darkness of a cell its share of the row.

    The names and counts of up to 20 classes are written into it. None where there are more than 500, or none.
    """
    count = len(confusion)
    if not 0 < count <= _MOST_CLASSES:
        return None
    cell = max(_SIDE // count, 1)
    written = count <= _MOST_WRITTEN
    names = [clean(name, 12) for name in classes]
    edge = 8 + max(round(ImageDraw.Draw(Image.new("L", (1, 1))).textlength(name)) for name in names) if written else 0
    image = Image.new("RGB", (edge + cell * count, (16 if written else 0) + cell * count), "white")
    draw = ImageDraw.Draw(image)
    top = image.height - cell * count
    for row, counts in enumerate(confusion):
        total = max(sum(counts), 1)
        for column, images in enumerate(counts):
            share = images / total
            colour = tuple(round(a + (b - a) * share) for a, b in zip(_LIGHT, _DARK, strict=True))
            left, upper = edge + column * cell, top + row * cell
            draw.rectangle((left, upper, left + cell - 1, upper + cell - 1), fill=colour)
            if written and images:
                middle = (left + cell / 2, upper + cell / 2)
                draw.text(middle, str(images), fill="white" if share > 0.5 else "black", anchor="mm")
        if written:
            draw.text((4, top + row * cell + cell / 2), names[row], fill="black", anchor="lm")
            draw.text((edge + row * cell + cell / 2, 8), names[row][: max(cell // 7, 1)], fill="black", anchor="mm")
    return image
