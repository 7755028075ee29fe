"""Where a run comes from is in its journal: command line, commits, packages, machine, data; never a secret."""

import subprocess
import sys
from pathlib import Path

import msgspec
import pytest
from git_repository import made_repository

from finetui.engine.protocol.events import ProvenanceTold, Rewound
from finetui.engine.protocol.provenance import GitState, Provenance, differences
from finetui.engine.runs.journal import JournalReader
from finetui.engine.runs.provenance import GitLook, package_versions, shown_command
from finetui.engine.runs.run_fields import FIELDS
from finetui.engine.runs.run_filter import matching, parse_filter
from finetui.engine.runs.summaries import summarise_run
from finetui.engine.session import provenance
from finetui.engine.session.session import Session


@pytest.fixture
def repository(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A repository with one commit, which is the current folder; git is waited for."""
    place = made_repository(tmp_path / "code", monkeypatch)
    monkeypatch.setattr(provenance, "_WAIT_SECONDS", 60.0)
    return place


def head(place: Path) -> str:
    return subprocess.run(
        ["git", "rev-parse", "HEAD"], cwd=place, check=True, capture_output=True, text=True
    ).stdout.strip()


def test_a_run_tells_where_it_comes_from(make_config, recorder, repository: Path, monkeypatch) -> None:
    monkeypatch.setattr(sys, "argv", ["/usr/bin/finetui", "train", "--data", "mnist-sample"])
    outcome = Session(make_config(), sinks=[recorder]).run()
    (told,) = recorder.of(ProvenanceTold)
    found = told.provenance
    assert found.command == ("finetui", "train", "--data", "mnist-sample")
    assert found.folder == str(repository)
    assert found.git == (GitState(folder=str(repository), commit=head(repository), changed=False),)
    assert {"finetui", "python", "torch", "torchvision"} <= found.packages.keys()
    assert found.device.startswith("cpu")
    assert len(found.data) == 64
    assert outcome.folder is not None
    summary = summarise_run(outcome.folder)
    assert summary is not None
    assert summary.provenance == found
    assert FIELDS["commit"].of(summary) == head(repository)[:12]
    assert matching([summary], parse_filter(f"commit:{head(repository)[:7]} command:mnist-sample")) == [summary]
    assert not matching([summary], parse_filter("commit:changes"))


def test_one_that_goes_on_tells_it_anew(make_config, recorder, repository: Path) -> None:
    def fail(step: int, _loss: object) -> None:
        if step == 5:
            raise RuntimeError("cut")

    first = Session(make_config(), on_step=fail)
    with pytest.raises(RuntimeError, match="cut"):
        first.run()
    (repository / "train.py").write_text("print(2)\n")
    assert first.folder is not None
    Session(make_config(), resume=first.folder, sinks=[recorder]).run()
    kinds = [type(event) for event in recorder.events if isinstance(event, (Rewound, ProvenanceTold))]
    assert kinds == [Rewound, ProvenanceTold]
    before, after = (e.provenance for e in JournalReader(first.folder.journal).read() if isinstance(e, ProvenanceTold))
    assert (before.git[0].changed, after.git[0].changed) == (False, True)
    (difference,) = differences(before, after)
    assert difference.endswith(f"{head(repository)[:12]} then, {head(repository)[:12]} with changes now")


def test_no_git_and_no_repository_are_no_fault(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("GIT_CEILING_DIRECTORIES", str(tmp_path.parent))
    assert GitLook([str(tmp_path), str(tmp_path / "nowhere")]).states(60.0) == ()
    monkeypatch.setenv("PATH", str(tmp_path))
    assert GitLook([str(tmp_path)]).states(60.0) == ()


def test_a_git_that_cannot_be_waited_for_ends_no_run(repository: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    communicate, failed = subprocess.Popen.communicate, set()

    def fails_once(process, *given, **named):
        if id(process) in failed:
            return communicate(process, *given, **named)
        failed.add(id(process))
        raise OSError(22, "Invalid argument")

    monkeypatch.setattr(subprocess.Popen, "communicate", fails_once)
    assert GitLook([str(repository)]).states(60.0) == ()


def test_a_git_that_takes_long_is_not_waited_for(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    commit = "0" * 40
    (tmp_path / "git").write_text(
        f"#!/bin/sh\ncase \"$*\" in *rev-parse*) printf '/code\\n{commit}\\n';; *config*) exit 1;;\n"
        "*) exec /bin/sleep 1000;; esac\n"
    )
    (tmp_path / "git").chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path))
    look = GitLook([str(tmp_path)])
    look._asked[0][0].wait(60)  # the commit has been told
    (state,) = look.states(0.0)
    assert state == GitState(folder="/code", commit=commit, changed=None)
    assert state.short == f"{commit[:12]}, changes not known"


def test_the_repository_runs_no_code_of_its_own(repository: Path) -> None:
    hook = repository / "hook"
    hook.write_text("#!/bin/sh\ntouch was-run\n")
    hook.chmod(0o755)
    subprocess.run(["git", "config", "core.fsmonitor", str(hook)], check=True)
    assert len(GitLook([str(repository)]).states(60.0)) == 1
    assert not (repository / "was-run").exists()


@pytest.mark.parametrize("place", ["config", "included"])
def test_nor_a_filter_of_its_own(repository: Path, place: str) -> None:
    (repository / "filter").write_text("#!/bin/sh\ntouch was-run\ncat\n")
    (repository / "filter").chmod(0o755)
    (repository / ".git" / "info" / "attributes").write_text("*.py filter=own\n")
    if place == "included":
        subprocess.run(["git", "config", "include.path", "included"], check=True)
    config = repository / ".git" / place
    subprocess.run(["git", "config", "-f", config, "filter.own.clean", str(repository / "filter")], check=True)
    (repository / "train.py").write_text("print(2)\n")
    (state,) = GitLook([str(repository)]).states(60.0)
    assert (state.commit, state.changed) == (head(repository), None)
    assert not (repository / "was-run").exists()


def test_a_filter_of_the_person_is_no_hindrance(
    repository: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("GIT_CONFIG_GLOBAL", str(tmp_path / "own"))
    subprocess.run(["git", "config", "--global", "filter.lfs.clean", "cat"], check=True)
    (repository / "train.py").write_text("print(2)\n")
    (state,) = GitLook([str(repository)]).states(60.0)
    assert state.changed


def test_what_git_was_asked_is_ended_where_the_run_cannot_be_prepared(
    make_config, repository: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    looks: list[subprocess.Popen[bytes]] = []

    def ask(*words: str) -> subprocess.Popen[bytes]:
        looks.append(asked := subprocess.Popen(["sleep", "1000"], stdout=subprocess.PIPE))
        return asked

    monkeypatch.setattr(GitLook, "_ask", staticmethod(ask))
    monkeypatch.setattr("finetui.engine.runs.provenance._FILTERS_SECONDS", 0.0)

    def fail(*_: object, **__: object) -> None:
        raise RuntimeError("no room")

    monkeypatch.setattr("finetui.engine.session.session.prepare", fail)
    with pytest.raises(RuntimeError, match="no room"):
        Session(make_config()).run()
    assert looks
    assert all(asked.returncode is not None and asked.stdout is not None and asked.stdout.closed for asked in looks)


@pytest.mark.parametrize(
    ("given", "shown"),
    [
        (["a.py", "--api-key", "abc", "--lr", "3"], ("a.py", "--api-key", "***", "--lr", "3")),
        (["a.py", "--hub-token=abc", "password=x"], ("a.py", "--hub-token=***", "password=***")),
        (["a.py", "--config", "https://me:pass@host/x"], ("a.py", "--config", "https://me:***@host/x")),
        (["a.py", "hf_abcdefghijklmnop"], ("a.py", "***")),
        (["a.py", "--name", "x-s3cret-y"], ("a.py", "--name", "x-***-y")),
        (["a.py", "--data", "\x1b[2J"], ("a.py", "--data", "�[2J")),
        (["/x/finetui/__main__.py", "train"], ("finetui", "train")),
        (["a.py", "--token", "--lr", "3"], ("a.py", "--token", "--lr", "3")),
    ],
)
def test_no_secret_is_kept(given: list[str], shown: tuple[str, ...]) -> None:
    assert shown_command(given, {"MY_SECRET": "s3cret", "HOME": "train"}) == shown


def test_packages_are_those_that_own_code_imports(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    (tmp_path / "own_network.py").write_text("import json\nimport msgspec\nfrom rich.text import Text\n")
    monkeypatch.syspath_prepend(str(tmp_path))
    import own_network  # noqa: F401

    found = package_versions(["own_network"])
    assert found["msgspec"] == msgspec.__version__
    assert {"rich", "python"} <= found.keys()
    assert not {"json", "own_network"} & found.keys()
    assert "msgspec" not in package_versions()


def test_what_is_not_as_it_was_is_said() -> None:
    then = Provenance(packages={"torch": "2.10", "python": "3.11"}, device="cpu", data="abc")
    assert differences(then, then) == []
    assert differences(then, Provenance(packages={"torch": "2.14", "timm": "1"}, device="cpu", data="abd")) == [
        "torch 2.10 then, 2.14 now",
        "data abc then, abd now",
    ]
