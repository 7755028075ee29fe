import importlib
import sys
import threading
from pathlib import Path

import pytest

from finetui.tui.left_out import left_out


@pytest.fixture(autouse=True)
def _modules(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """There are two modules, one of which can do without the other."""
    (tmp_path / "left_out_extra.py").write_text("")
    (tmp_path / "left_out_user.py").write_text(
        "try:\n    import left_out_extra as extra\nexcept ImportError:\n    extra = None\n"
    )
    monkeypatch.syspath_prepend(str(tmp_path))
    for name in ("left_out_extra", "left_out_user"):
        monkeypatch.delitem(sys.modules, name, raising=False)
    importlib.invalidate_caches()


def test_what_is_left_out_is_not_found_meanwhile_and_is_there_afterwards() -> None:
    finders = list(sys.meta_path)
    with left_out("left_out_extra"):
        assert importlib.import_module("left_out_user").extra is None
    assert sys.meta_path == finders
    assert "left_out_extra" not in sys.modules
    assert importlib.import_module("left_out_extra").__name__ == "left_out_extra"


def test_what_is_imported_already_is_found() -> None:
    extra = importlib.import_module("left_out_extra")
    with left_out("left_out_extra"):
        assert importlib.import_module("left_out_user").extra is extra


def test_other_threads_find_it() -> None:
    found: list[object] = []
    with left_out("left_out_extra"):
        other = threading.Thread(target=lambda: found.append(importlib.import_module("left_out_user").extra))
        other.start()
        other.join()
    assert found == [sys.modules["left_out_extra"]]


def test_it_ends_where_the_import_fails() -> None:
    finders = list(sys.meta_path)
    with pytest.raises(ModuleNotFoundError, match="left_out_extra"), left_out("left_out_extra"):
        importlib.import_module("left_out_extra")
    assert sys.meta_path == finders
