"""When `finetui finetune` asks in a form, and when it trains at once."""

from pathlib import Path

import pytest

from finetui.tui.cli import main


def test_a_dashboard_without_settings_asks_in_a_form(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = tmp_path / "checkpoints" / "base"
    folder.mkdir(parents=True)
    for name in ("journal.jsonl", "best.ckpt", "last.ckpt"):
        (folder / name).touch()
    opened: list[tuple[str, str]] = []
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(
        "finetui.tui.app.launch.open_finished_run",
        lambda run, *, finetune, **_options: opened.append((run.name, finetune)) or 0,
    )
    monkeypatch.setattr("finetui.tui.cli.finetune._config", lambda *_arguments, **_settings: None)
    monkeypatch.setattr("finetui.tui.cli.finetune.start", lambda *_arguments: 7)
    assert main.run(["finetune", "base", "--dashboard"]) == 0
    assert main.run(["finetune", "base:last", "--dashboard", "--runs-dir", "checkpoints"]) == 0
    assert opened == [("base", "best"), ("base", "last")]
    for settings in (["--recipe", "lp-ft"], ["--head", "auto"], ["--epochs", "2"], ["--freeze", "conv1"]):
        assert main.run(["finetune", "base", "--dashboard", *settings]) == 7
    assert main.run(["finetune", "base"]) == 7
    assert len(opened) == 2
