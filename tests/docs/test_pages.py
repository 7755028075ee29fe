"""Every command of the pages for learners, as a reader types it, on real images."""

import os
import re
import shlex
import subprocess
from pathlib import Path

import pytest
from command_line import FINETUI

DOCS = Path(__file__).parents[2] / "docs"

pytestmark = [pytest.mark.slow, pytest.mark.timeout(900)]


def commands(page: str) -> list[list[str]]:
    """Return the arguments of each line that is a command: indented, with or without a `$`."""
    lines = re.findall(
        r"^    (?:\$ )?finetui (.+?)(?:  +#.*)?$", (DOCS / page).read_text(encoding="utf-8"), re.MULTILINE
    )
    return [shlex.split(line) for line in lines]


def clothes(place: Path, data: Path) -> None:
    """Lay out a few of Fashion-MNIST's images as the Chinese page does it."""
    from torchvision.datasets import FashionMNIST

    left = {0: ("tshirt", 60), 1: ("trouser", 60), 7: ("sneaker", 60)}
    for picture, label in FashionMNIST(data):
        name, count = left.get(label, ("", 0))
        if count:
            (place / name).mkdir(parents=True, exist_ok=True)
            picture.save(place / name / f"{61 - count}.png")
            left[label] = name, count - 1
        if not any(count for _, count in left.values()):
            break


@pytest.mark.parametrize(("page", "least"), [("zh/quickstart.md", 10), ("tutorial.md", 3)])
def test_the_commands_of_a_page_do_what_it_says(page: str, least: int, tmp_path: Path, shared_data: Path) -> None:
    found = commands(page)
    assert len(found) >= least
    clothes(tmp_path / "photos", shared_data)
    environment = {**os.environ, "FINETUI_DATA": str(shared_data)}
    for arguments in found:
        if arguments[0] in ("train", "finetune") and "--epochs" not in arguments:
            arguments += ["--epochs", "1"]  # the pages leave some at their four or ten
        done = subprocess.run([*FINETUI, *arguments], cwd=tmp_path, env=environment, capture_output=True, text=True)
        assert done.returncode == 0, (arguments, done.stderr)
        if arguments[0] == "replay":
            assert "the same weights at all" in done.stdout
