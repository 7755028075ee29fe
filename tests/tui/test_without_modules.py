import importlib
import sys
import threading
from pathlib import Path

import pytest

from finetui.tui.without_modules import without_modules


@pytest.fixture(autouse=True)
def _modules(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """There are two modules, one of which can do without the other."""
    (tmp_path / "unwanted_extra.py").write_text("")
    (tmp_path / "unwanted_user.py").write_text(
        "try:\n    import unwanted_extra as extra\nexcept ImportError:\n    extra = None\n"
    )
    monkeypatch.syspath_prepend(str(tmp_path))
    for name in ("unwanted_extra", "unwanted_user"):
        monkeypatch.delitem(sys.modules, name, raising=False)
    importlib.invalidate_caches()


def test_what_is_unwanted_is_not_found_meanwhile_and_is_there_afterwards() -> None:
    finders = list(sys.meta_path)
    with without_modules("unwanted_extra"):
        assert importlib.import_module("unwanted_user").extra is None
    assert sys.meta_path == finders
    assert "unwanted_extra" not in sys.modules
    assert importlib.import_module("unwanted_extra").__name__ == "unwanted_extra"


def test_what_is_imported_already_is_found() -> None:
    extra = importlib.import_module("unwanted_extra")
    with without_modules("unwanted_extra"):
        assert importlib.import_module("unwanted_user").extra is extra


def test_other_threads_find_it() -> None:
    found: list[object] = []
    with without_modules("unwanted_extra"):
        other = threading.Thread(target=lambda: found.append(importlib.import_module("unwanted_user").extra))
        other.start()
        other.join()
    assert found == [sys.modules["unwanted_extra"]]


def test_it_ends_where_the_import_fails() -> None:
    finders = list(sys.meta_path)
    with pytest.raises(ModuleNotFoundError, match="unwanted_extra"), without_modules("unwanted_extra"):
        importlib.import_module("unwanted_extra")
    assert sys.meta_path == finders
