"""Images that are made to harm."""

import os
import struct
import zlib
from pathlib import Path

import pytest
from memory_growth import MOST_GROWTH, run_measured

from finetui.engine.data import Unreadable
from finetui.engine.data.image_files import decode, read_header
from finetui.engine.protocol.values import Decoding

SHIPPED = Path(__file__).parents[2] / "checkpoints" / "lenet-mnist"


def png(width: int, height: int, *more: tuple[bytes, bytes]) -> bytes:
    """Return a black PNG of this size with one bit for each pixel, and `more` chunks before them."""

    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    packer = zlib.compressobj(9)
    pixels = b"".join(packer.compress(b"\0" * (1 + (width + 7) // 8)) for _ in range(height)) + packer.flush()
    header = struct.pack(">IIBBBBB", width, height, 1, 0, 0, 0, 0)
    chunks = [(b"IHDR", header), *more, (b"IDAT", pixels), (b"IEND", b"")]
    return b"\x89PNG\r\n\x1a\n" + b"".join(chunk(*each) for each in chunks)


def packed(megabytes: int) -> bytes:
    packer = zlib.compressobj(9)
    return b"".join(packer.compress(b"x" * (1 << 20)) for _ in range(megabytes)) + packer.flush()


LOOK_AT_IMAGES = """
import json, sys
from pathlib import Path
import finetui
from finetui.engine.data import Unreadable
from finetui.engine.data.image_files import decode, read_header
from finetui.engine.protocol.values import Decoding

def classified(path):
    return next(finetui.classify(Path(sys.argv[2]), [Path(path)])).problem

classified(sys.argv[3])
ballast = take_ballast()
for path in sorted(Path(sys.argv[1]).iterdir()):
    small, large = (
        Decoding(channels=1, height=28, width=28),
        Decoding(channels=3, height=224, width=224),
    )
    for read in (read_header, lambda path: decode(path, small), lambda path: decode(path, large), classified):
        before = peak()
        try:
            reason = read(str(path))
        except Unreadable as problem:
            reason = str(problem)
        print(json.dumps([path.name, peak() - before, reason if isinstance(reason, str) else ""]))
"""


def test_an_image_that_grows_is_refused_before_it_is_decoded(tmp_path: Path) -> None:
    """Row 22: images of 900 million pixels in 100 KB, and texts and profiles of 200 MB in them: less than 100 MB."""
    folder = tmp_path / "images"
    folder.mkdir()
    (tmp_path / "good.png").write_bytes(png(64, 64))
    (folder / "pixels.png").write_bytes(png(30_000, 30_000))
    (folder / "pixels.gif").write_bytes(b"GIF89a" + struct.pack("<HHBBB", 60_000, 60_000, 0, 0, 0) + b"," + b"\0" * 30)
    (folder / "text.png").write_bytes(png(64, 64, (b"zTXt", b"comment\0\0" + packed(200))))
    (folder / "profile.png").write_bytes(png(64, 64, (b"iCCP", b"profile\0\0" + packed(200))))
    assert all(path.stat().st_size < 600_000 for path in folder.iterdir())
    results = run_measured(LOOK_AT_IMAGES, folder, SHIPPED / "best.ckpt", tmp_path / "good.png")
    assert len(results) == 4 * 4
    for name, growth, reason in results:
        assert growth < MOST_GROWTH, name
        assert ("pixels" in reason) == name.startswith("pixels"), (name, reason)


def test_an_image_that_is_a_program_is_not_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Row 21: Pillow has Ghostscript run what is PostScript, whatever the file is called."""
    ghostscript = tmp_path / "bin" / "gs"
    ghostscript.parent.mkdir()
    ghostscript.write_text(f"#!/bin/sh\nmkdir {tmp_path / 'executed'}\n")
    ghostscript.chmod(0o700)
    monkeypatch.setenv("PATH", str(ghostscript.parent), prepend=os.pathsep)
    path = tmp_path / "digit.png"
    path.write_text("%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 28 28\n%%EndComments\nshowpage\n%%EOF\n")
    for read in (read_header, lambda file: decode(file, Decoding(channels=1, height=28, width=28))):
        with pytest.raises(Unreadable, match="PostScript"):
            read(str(path))
    assert not (tmp_path / "executed").exists()
