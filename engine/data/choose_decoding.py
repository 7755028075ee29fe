"""How the image files of a data set are decoded, all of them alike: by what is asked for, and by their headers."""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import suppress

import msgspec

from finetui.engine.data.download import Progress
from finetui.engine.data.image_files import (
    DRAFT,
    MODES_OF_32_BITS,
    WIDE_MODES,
    Header,
    PixelRange,
    common_range,
    draft_fraction,
    read_range,
    settled,
)
from finetui.engine.data.parallel import for_each
from finetui.engine.data.split import Unreadable
from finetui.engine.protocol.values import Decoding

BY_IMAGES = Decoding(channels=0, height=0, width=0, draft=DRAFT, resampler="torch")
"""What a new run asks for: everything as its images need it."""


def sized(size: int | None, wanted: Decoding = BY_IMAGES) -> Decoding:
    """Return `wanted` for squares of `size` pixels a side, where that is given."""
    return msgspec.structs.replace(wanted, height=size, width=size, resize=0) if size else wanted


def choose_decoding(
    wanted: Decoding,
    headers: Mapping[str, Header],
    train: Sequence[str],
    progress: Progress,
    cancelled: Callable[[], bool],
) -> Decoding:
    """Return how all files with these `headers`, by path, are decoded: as `wanted`, what is 0 in it by the images.

    Where `wanted` has no channels, it is a new run's, and the range of pixels with more than 8 bits is that of all the
    training images `train`, which are read for it. Raises `Cancelled`.
    """
    sizes = [(header.height, header.width) for header in headers.values()]
    decoding = settled(wanted, sizes, grey=all(header.grey for header in headers.values()))
    if wanted.channels:
        return decoding
    value_range = _range([path for path in train if headers[path].mode in WIDE_MODES], headers, progress, cancelled)
    return msgspec.structs.replace(decoding, value_range=value_range)


def _range(
    paths: Sequence[str], headers: Mapping[str, Header], progress: Progress, cancelled: Callable[[], bool]
) -> tuple[float, float] | None:
    """Return what the pixels of the images `paths`, which have more than 8 bits, are scaled from."""
    if not paths:
        return None
    if not any(headers[path].mode in MODES_OF_32_BITS for path in paths):
        return common_range([PixelRange(0, 1, is_float=False, is_16_bit=True)])
    found: list[PixelRange] = []

    def read(index: int) -> None:
        with suppress(Unreadable):  # told when it is decoded
            found.append(read_range(paths[index]))

    for_each(
        read,
        len(paths),
        tell=lambda done: progress("Finding the pixel range", done, len(paths)),
        cancelled=cancelled,
    )
    return common_range(found) if found else None


def decoding_notices(headers: Iterable[Header], decoding: Decoding) -> Iterator[str]:
    """Yield what a person should know about how the files with these `headers` are decoded."""
    headers = list(headers)
    if decoding.value_range is not None:
        low, high = decoding.value_range
        yield f"pixels of more than 8 bits are scaled from {low:g} .. {high:g} to 0 .. 255, the same in all images"
    jpegs = [header for header in headers if header.jpeg]
    smaller = sum(draft_fraction(header, decoding) > 1 for header in jpegs)
    if smaller and decoding.draft == DRAFT:
        yield (
            f"{smaller:,} of {len(jpegs):,} JPEG files are at least {2 * DRAFT} times as large as needed, and are "
            "decoded at a fraction of their size, which changes pixels by less than half a level of 255 on average; "
            "the others are decoded in full"
        )
