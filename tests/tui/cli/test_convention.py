"""What holds for all commands: how a run is named, near misses, help that is whole, and printed commands that work."""

import ast
import inspect
import re
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest
from old_runs import OLD_RUNS

import finetui
from finetui.tui.cli import main
from finetui.tui.cli.main import app

PACKAGE = Path(inspect.getfile(finetui)).parent
COMMANDS = sorted(name for name in app if not name.startswith("-"))
_PLACE = "PLACE"  # stands for what an f-string puts in


@pytest.fixture
def work(tmp_path: Path) -> Path:
    shutil.copytree(OLD_RUNS, tmp_path / "checkpoints")
    return tmp_path


@pytest.mark.parametrize(
    ("words", "same"),
    [
        (["evaluate", "--from", "a", "--json"], ["evaluate", "a", "--json"]),
        (["errors", "--limit", "3", "--from=a"], ["errors", "a", "--limit", "3"]),
        (["predict", "x.png", "--from", "a", "y.png"], ["predict", "a", "x.png", "y.png"]),
        (["finetune", "--from", "a:last"], ["finetune", "a:last"]),
        (["summary", "--from"], ["summary"]),
        (["train", "--from", "a"], ["train", "--from", "a"]),
        (["evaluate", "a", "--", "--from", "b"], ["evaluate", "a", "--", "--from", "b"]),
        ([], []),
    ],
)
def test_the_earlier_spelling_of_the_run_is_the_run(words: list[str], same: list[str]) -> None:
    assert main._with_run_first(words) == same


def test_every_command_about_a_run_takes_it_as_its_first_word() -> None:
    first = {name: next(iter(app[name].assemble_argument_collection())) for name in COMMANDS}
    run_first = {name for name, argument in first.items() if argument.name in ("RUN", "--run")}
    assert set(COMMANDS) - run_first == {"train", "runs", "watch", "completion"}
    for name in COMMANDS:
        shown = [argument.names for argument in app[name].assemble_argument_collection() if argument.show]
        assert not any({"--from", "--checkpoint"} & set(names) for names in shown)


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (["renam"], "did you mean rename?"),
        (["train", "--epoch", "3"], "did you mean --epochs?"),
        (["extend", "steered", "--epoch", "3"], "--epochs is missing; is --epoch a typo?"),
        (["open", "steerd"], "no run 'steerd' in checkpoints; did you mean steered?"),
        (["open", "probe"], "did you mean linear-probe?"),
        (["open", "unlike"], "there are: "),
        (["evaluate", "steered:bst"], "the run steered has no checkpoint 'bst'; did you mean best?"),
        (["resume", "steered:previos"], "has no checkpoint 'previos'; did you mean previous?"),
        (["branch", "steered:lst"], "did you mean last?"),
        (["resume", "steered", "--checkpoint", "bst"], "did you mean best?"),
        (["resume", "steered:best", "--checkpoint", "last"], "leave one of them out"),
        (["train", "--data", "mnits"], "did you mean 'mnist'"),
        (["train", "--optimizer", "admw"], "did you mean 'adamw'"),
        (["finetune", "steered", "--recipe", "gradul"], "did you mean 'gradual'"),
        (["train", "--recipe", "articel"], "did you mean 'article'?"),
        (["errors", "steered", "--sort", "los"], "did you mean 'loss'?"),
        (["runs", "modle:lenet"], "no field 'modle'; did you mean model?"),
        (["runs", "--sort", "bst"], "no field 'bst'; did you mean best?"),
        (["runs", "--columns", "name,notes"], "no column 'notes'; did you mean note"),
        (["runs", "--jsn"], "no option --jsn; did you mean --json"),
        (["tag", "steered", "--remove", "keep"], "has no tag 'keep'; it has none"),
        (["evaluate"], "evaluate: RUN is missing"),
        (["train", "--lr"], "--lr needs a value"),
    ],
)
def test_a_near_miss_is_answered_with_what_was_meant(in_process, work: Path, words: list[str], says: str) -> None:
    result = in_process(*words, cwd=work)
    assert result.returncode == 2
    assert says in result.stderr
    assert result.stderr.startswith("finetui: ")
    assert result.stderr.count("\n") == 1


@pytest.mark.parametrize("width", [80, 140])
@pytest.mark.parametrize("command", ["", *COMMANDS])
def test_help_is_never_cut(
    monkeypatch: pytest.MonkeyPatch, in_process, tmp_path: Path, command: str, width: int
) -> None:
    monkeypatch.setenv("COLUMNS", str(width))
    shown = in_process(*command.split(), "--help", cwd=tmp_path).stdout
    assert max(map(len, shown.splitlines())) <= width
    assert "…" not in shown
    text = "".join(shown.replace("│", " ").split())  # a long word is broken where the line ends
    here = app[command] if command else app
    arguments = [argument for argument in here.assemble_argument_collection(parse_docstring=True) if argument.show]
    assert arguments
    for argument in arguments:
        assert argument.parameter.help, f"{argument.name} says nothing"
        assert "".join(argument.parameter.help.split()) in text, argument.name
    assert "".join(here.help.split()) in text


def _texts(file: Path) -> Iterator[str]:
    """Yield what a file's program may print: all its texts but docstrings, which say what other things are."""
    tree = ast.parse(file.read_text())
    silent = {id(node.value) for node in ast.walk(tree) if isinstance(node, ast.Expr)}
    for node in ast.walk(tree):
        if isinstance(node, ast.JoinedStr):
            silent |= {id(part) for part in node.values}
            yield "".join(str(part.value) if isinstance(part, ast.Constant) else _PLACE for part in node.values)
        elif isinstance(node, ast.Constant) and isinstance(node.value, str) and id(node) not in silent:
            yield node.value


def _printed() -> set[str]:
    """Return the commands in all texts of the program: those in backticks, and those that name a run or an option."""
    found: set[str] = set()
    for file in sorted((*PACKAGE.glob("engine/**/*.py"), *PACKAGE.glob("tui/**/*.py"))):
        for text in _texts(file):
            line = " ".join(text.split())
            found |= set(re.findall(r"`(finetui [a-z][^`]*)`", line))
            found |= set(
                re.findall(rf"finetui (?!needs)[a-z]+ (?:RUN|{_PLACE})(?::\w+)?(?: --[\w-]+(?: [A-Z]+\b)?)*", line)
            )
    return found


PRINTED = sorted(_printed())


def test_printed_commands_are_found() -> None:
    assert len(PRINTED) > 12
    assert {command.split()[1] for command in PRINTED} >= {"attach", "resume", "finetune", "evaluate", "errors"}


@pytest.mark.parametrize("command", PRINTED)
def test_what_is_printed_can_be_pasted(command: str) -> None:
    words = re.sub(r"\b(N)\b", "7", command).split()[1:]
    assert words[0] in COMMANDS
    assert "--from" not in words
    app.parse_args(words, exit_on_error=False, print_error=False)
