"""What the tests of the socket share."""

from collections.abc import Iterator
from pathlib import Path

import pytest
from peers import Engine

from finetui.engine.link import sockets


@pytest.fixture
def engine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Engine]:
    """A server that is empty at first, on a socket of the test's own."""
    (tmp_path / "r").mkdir(mode=0o700)
    monkeypatch.setenv("XDG_RUNTIME_DIR", str(tmp_path / "r"))
    made = Engine(sockets.new_path())
    yield made
    made.server.stop()
    assert not made.server.path.exists()
