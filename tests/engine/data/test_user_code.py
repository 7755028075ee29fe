"""A person's own code: executed once, with its own folder first, in nobody's way."""

import importlib
import pickle
import subprocess
import sys
import traceback
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType

import pytest
import torch
from fork_server import FORKED

from finetui.engine.data import load
from finetui.engine.data.user_code import load_factory
from finetui.engine.errors import BadInput
from finetui.engine.models.architecture import check_model
from finetui.engine.protocol.config import DataConfig

NOISE = """
import torch
class Noise(torch.utils.data.Dataset):
    def __init__(self, n): self.n = n
    def __len__(self): return self.n
    def __getitem__(self, i): return torch.full((3, 3), i, dtype=torch.uint8), i % 3
def pair(): return Noise(6), Noise(3)
"""


def write(folder: Path, **files: str) -> None:
    """Write Python files; `__` in a name stands for a slash, INIT for what makes a folder a package."""
    for name, text in files.items():
        path = folder / f"{name.replace('__', '/').replace('INIT', '__init__')}.py"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)


def call(path: Path, name: str = "make") -> object:
    return load_factory(f"{path}:{name}", "--model")()


@pytest.fixture(autouse=True)
def _as_installed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Nothing is found in the current folder by itself, and no folder of a person's is put on the path of all."""
    monkeypatch.setattr(sys, "path", [place for place in sys.path if place not in ("", ".")])
    yield
    assert {place for place in sys.path if place.startswith(str(tmp_path))} <= {str(tmp_path / "installed")}


def test_a_file_is_executed_once_however_it_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write(
        tmp_path,
        counted="import pathlib\nwith pathlib.Path('log').open('a') as log: log.write('x')\ndef a(): ...\nclass B: ...",
        other="from counted import B\ndef make(): return B",
    )
    (tmp_path / "link.py").symlink_to("counted.py")
    monkeypatch.chdir(tmp_path)
    names = ("counted.py:a", "counted.py:B", f"{tmp_path}/counted.py:B", "counted:B", "./counted.py:B", "link.py:B")
    first, *others = (load_factory(name, "--model") for name in names)
    assert first.__name__ == "a"
    assert set(others) == {call(tmp_path / "other.py")}
    assert Path("log").read_text() == "x"


@pytest.mark.parametrize("name", ["engine", "utils", "tui", "datasets", "finetune", "test"])
@pytest.mark.parametrize("package", [False, True])
@pytest.mark.parametrize("loaded", [False, True])
def test_their_own_modules_go_before_installed_ones(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str, package: bool, loaded: bool
) -> None:
    monkeypatch.delitem(sys.modules, name, raising=False)
    write(tmp_path / "installed", **{f"{name}__sub": "whose = 'installed'", f"{name}__INIT": "whose = 'installed'"})
    monkeypatch.syspath_prepend(tmp_path / "installed")
    if loaded:
        importlib.import_module(f"{name}.sub")
    inside = {f"{name}__INIT": "whose = 'own'", f"{name}__sub": "whose = 'own'"} if package else {}
    lazy = f"    import {name}.sub, {name}.sub as s\n    from {name} import sub\n" if package else ""
    also = f"{name}.sub.whose, s.whose, sub.whose" if package else ""
    write(
        tmp_path / "repo",
        net=f"from {name} import whose\nimport {name} as top\ndef make():\n{lazy}"
        f"    import {name}\n    return {{whose, top.whose, {name}.whose, {also}}}",
        **(inside or {name: "whose = 'own'"}),
    )
    assert call(tmp_path / "repo" / "net.py") == {"own"}
    assert importlib.import_module(name).whose == "installed"
    for installed in (name, f"{name}.sub"):  # what was there before this test is put back
        sys.modules.pop(installed, None)


@pytest.mark.parametrize("library", ["queue", "types", "random", "numpy", "code", "torch", "finetui", "dataclasses"])
def test_a_file_named_as_a_library_takes_nobodys_place(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, library: str
) -> None:
    real = importlib.import_module(library)
    write(
        tmp_path,
        **{library: f"import {library}\ndef make(): return {library}\ndef own(): return make.__module__"},
        beside=f"import {library}\ndef make(): return {library}",
    )
    monkeypatch.chdir(tmp_path)
    for name in (library, "beside"):
        assert call(tmp_path / f"{name}.py") is real
    own = call(tmp_path / f"{library}.py", "own")
    assert own.endswith(f".{library}")
    assert sys.modules[library] is importlib.import_module(library) is real
    assert sys.modules[own].__file__ == str(tmp_path / f"{library}.py")


def test_a_file_named_as_what_it_imports_gets_that(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write(tmp_path / "installed", zoo_of_nets="net = 3")
    monkeypatch.syspath_prepend(tmp_path / "installed")
    write(tmp_path / "repo", zoo_of_nets="import zoo_of_nets\ndef make(): return zoo_of_nets.net")
    assert call(tmp_path / "repo" / "zoo_of_nets.py") == 3


def test_the_same_names_in_two_folders(tmp_path: Path) -> None:
    for folder in ("a", "b"):
        write(tmp_path / folder, net="import utils\ndef make(): return utils.where", utils=f"where = '{folder}'")
    assert [call(tmp_path / folder / "net.py") for folder in ("a", "b", "a")] == ["a", "b", "a"]
    assert "where" not in vars(sys.modules.get("utils", ModuleType("none")))


@pytest.mark.parametrize("folder", ["my repo", "v1.0", "naïve_2f", 'it\'s "so"', "a\nb"])
@pytest.mark.parametrize("file", ["net.py", "main-finetune.py", "net.v2.py", "2nd.py", "my net.py", "net_2epy.py"])
def test_names_of_folders_and_files(tmp_path: Path, folder: str, file: str) -> None:
    (tmp_path / folder / Path(file).stem).mkdir(parents=True)
    write(tmp_path / folder, **{f"{Path(file).stem}__INIT": ""}, helper="value = 2", v2="wrong")
    (tmp_path / folder / file).write_text("from helper import value\ndef make(): return value, __file__, __name__")
    value, path, name = call(tmp_path / folder / file)
    assert (value, path) == (2, str(tmp_path / folder / file))
    assert name != "__main__"


@pytest.mark.parametrize(
    ("source", "gives"),
    [
        ("from .layers import width", 8),
        ("from . import layers, marker\nwidth = layers.width + marker", 9),
        ("from ..common import width", 4),
        ("from .. import common\nwidth = common.width", 4),
        ("from zoo.nets.layers import width", 8),
        ("import layers\nwidth = layers.width", 8),
    ],
)
def test_a_file_of_a_package(tmp_path: Path, source: str, gives: int) -> None:
    """It is imported as its package's where its imports say so, and else as a script, which leaves that alone."""
    write(
        tmp_path,
        zoo__INIT="",
        zoo__common="width = 4",
        zoo__nets__INIT="import sys\nmarker = 1",
        zoo__nets__layers="width = 8",
        zoo__nets__net=f"{source}\ndef make(): return width",
    )
    assert call(tmp_path / "zoo" / "nets" / "net.py") == gives


def test_a_folder_without_init_is_a_package_unless_another_is(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write(tmp_path / "installed", pictures_one__INIT="whose = 'installed'")
    monkeypatch.syspath_prepend(tmp_path / "installed")
    write(
        tmp_path / "repo",
        pictures_two__net="whose = 'own'",
        net="import pictures_one, pictures_two.net\ndef make(): return pictures_one.whose, pictures_two.net.whose",
    )
    (tmp_path / "repo" / "pictures_one").mkdir()
    assert call(tmp_path / "repo" / "net.py") == ("installed", "own")


def test_modules_that_code_imports_by_their_names(tmp_path: Path) -> None:
    """As registries of networks do; and what an old pickle names is found in the folder as well."""
    write(
        tmp_path,
        zoo_by_name__INIT="import importlib\nnets = {}\n"
        "for name in 'ab': importlib.import_module('zoo_by_name.' + name)",
        zoo_by_name__a="from zoo_by_name import nets\nnets['a'] = 1",
        zoo_by_name__b="import zoo_by_name\nzoo_by_name.nets['b'] = 2",
        net="import zoo_by_name\ndef make(): return zoo_by_name.nets\n"
        "def old():\n    import pickle\n    return pickle.loads(b'czoo_by_name\\nnets\\n.')\n"
        "def missing():\n    import importlib\n    importlib.import_module('zoo_by_name.c')",
    )
    nets = call(tmp_path / "net.py")
    assert nets == {"a": 1, "b": 2}
    assert call(tmp_path / "net.py", "old") is nets
    with pytest.raises(ModuleNotFoundError):
        call(tmp_path / "net.py", "missing")
    with pytest.raises(ModuleNotFoundError):
        importlib.import_module("net")


def test_it_has_a_command_line_of_its_own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "argv", ["finetui", "train", "--model", "x"])
    source = "import sys, argparse\nargv = sys.argv\nargparse.ArgumentParser().parse_args()\n"
    write(tmp_path, net=f"{source}def make(): return argv", ends="import sys\nsys.exit(3)", raises="1 / 0")
    assert call(tmp_path / "net.py") == [str(tmp_path / "net.py")]
    for name, says in (("ends", "SystemExit: 3"), ("raises", "ZeroDivisionError: division by zero")):
        with pytest.raises(BadInput, match=rf"cannot be imported \({says}\)"):
            call(tmp_path / f"{name}.py")
    write(
        tmp_path,
        data=f"{NOISE}\nimport argparse\ndef parsed():\n    argparse.ArgumentParser().parse_args()\n    return pair()",
    )
    assert len(load(DataConfig(name=f"{tmp_path}/data.py:parsed"), torch.device("cpu")).train) == 6
    assert sys.argv[1] == "train"


@pytest.mark.parametrize(
    ("source", "says"),
    [
        ("import no_such_module_at_all", "No module named 'no_such_module_at_all'"),
        ("import helper.more", "No module named 'helper.more'; 'helper' is not a package"),
        ("from helper import less", "cannot import name 'less' from 'helper'"),
        ("1 / 0", "ZeroDivisionError: division by zero"),
    ],
)
def test_errors_have_the_names_that_a_person_wrote(tmp_path: Path, source: str, says: str) -> None:
    write(tmp_path, net=f"\n{source}", helper="")
    with pytest.raises(BadInput, match=says) as caught:
        check_model(f"{tmp_path}/net.py:make")
    assert f'File "{tmp_path}/net.py", line 2' in "".join(traceback.format_exception(caught.value))
    (tmp_path / "net.py").write_text("def make(): ...")
    check_model(f"{tmp_path}/net.py:make")  # what has failed is tried again


def test_objects_reach_other_processes(tmp_path: Path) -> None:
    write(
        tmp_path,
        net="from dataclasses import dataclass\nfrom parts import Part\n@dataclass\nclass Net:\n    width: int = 3\n"
        "    part: Part = None\ndef make(): return Net(2, Part(1))",
        parts="from dataclasses import dataclass\n@dataclass(frozen=True)\nclass Part:\n    size: int",
    )
    made = call(tmp_path / "net.py")
    assert pickle.loads(pickle.dumps(made)) == made
    code = "import pickle, sys; print(pickle.load(sys.stdin.buffer))"
    done = subprocess.run([*FORKED, code], input=pickle.dumps(made), capture_output=True, check=True)
    assert done.stdout.decode().strip() == "Net(width=2, part=Part(size=1))"


SCRIPT = """
import sys
import finetui, helper, stem
from finetui import DataConfig, ModelConfig, RunConfig, RunSection, TrainingConfig
if __name__ == "__main__":
    outcome = finetui.Session(RunConfig(
        data=DataConfig(name=sys.argv[1], loader="stream", workers=2), model=ModelConfig(name=sys.argv[2]),
        training=TrainingConfig(epochs=1, batch_size=4, device="cpu"), run=RunSection(runs_dir=sys.argv[3]))).run()
    assert outcome.state == "finished", outcome
    assert "random" not in sys.modules or "site-packages" not in sys.modules["random"].__file__
    print(helper.whose, stem.make.__module__)
"""
NET = """
import helper, pathlib, sys
from engine import train_one_epoch
import tui.screens
from torch import nn
def make(num_classes): return nn.Sequential(nn.Flatten(), nn.Linear(9, num_classes))
"""
LAZY = NOISE.replace("): return torch", "):\n        import helper, engine\n        assert helper.whose == 'own'\n"
                     "        return torch")  # fmt: skip


@pytest.mark.slow
def test_a_repository_trains_with_workers(tmp_path: Path) -> None:
    """From a script in it that imports finetui, and from elsewhere in a folder with files named as libraries."""
    repo = tmp_path / "the repo"
    write(repo, script=SCRIPT, stem=NET + LAZY, helper="whose = 'own'", engine="def train_one_epoch(): ...")
    write(repo, tui__INIT="", tui__screens="")
    write(tmp_path / "other", stem=LAZY, helper="whose = 'own'", engine="")
    elsewhere = tmp_path / "elsewhere"
    write(elsewhere, **dict.fromkeys(("random", "numpy", "socket", "tempfile"), "raise SystemError('not mine')"))
    script = tmp_path / "outside.py"
    script.write_text(
        SCRIPT.replace("import finetui, helper, stem", "import finetui").replace("print(", "0 and print(")
    )
    for program, data, folder in ((repo / "script.py", repo, repo), (script, tmp_path / "other", elsewhere)):
        command = [program, f"{data}/stem.py:pair", f"{repo}/stem.py:make", tmp_path / "runs"]
        done = subprocess.run([sys.executable, *command], cwd=folder, capture_output=True, text=True, timeout=170)
        assert done.returncode == 0, done.stderr
    assert sorted(path.name[11:] for path in (tmp_path / "runs").iterdir()) == ["stem-pair", "stem-pair-stem-make"]
