"""Tests drive the dashboard with the pilot of `tests/support`, which acts on nothing that is not drawn yet."""

import re
from pathlib import Path

TESTS = Path(__file__).parents[1]
BARE = re.compile(r"\.run_test\(|\.pause\([\d)]|_wait_for_screen|import Pilot\b")


def test_no_test_has_a_pilot_of_its_own() -> None:
    own = {Path(__file__), TESTS / "support" / "pilot.py"}
    found = [
        f"{path.relative_to(TESTS)}:{number}: {line.strip()}"
        for path in sorted(set(TESTS.rglob("*.py")) - own)
        for number, line in enumerate(path.read_text(encoding="utf-8").splitlines(), 1)
        if BARE.search(line)
    ]
    assert found == []
