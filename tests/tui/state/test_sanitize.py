from pathlib import Path

import msgspec
import pytest
from canned import point, prepared

from finetui.engine.protocol.config import DataConfig, ModelConfig, RunConfig
from finetui.tui.state.sanitize import sanitized


def test_what_is_harmless_stays_the_same_object() -> None:
    for event in (point(1), prepared()):
        assert sanitized(event) is event


@pytest.mark.parametrize(
    ("data", "model", "says"),
    [
        ("a/\x1b/b", "x\x1b.py:f", ("a/�/b", "x�.py:f")),
        ("fol\u202eder", "module:fac\u115ftory", ("fol�der:_", "module:fac�tory:_")),
        ("a" * 5000 + ":f", "b" * 5000 + ":f", ("a" * 4095 + "…:_", "b" * 4095 + "…:_")),
    ],
    ids=["valid", "valid no more", "long"],
)
def test_a_configuration_is_cleaned_whatever_its_names_look_like_then(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, data: str, model: str, says: tuple[str, str]
) -> None:
    monkeypatch.chdir(tmp_path)
    if data.startswith("fol"):
        Path(data).mkdir()
    config = RunConfig(data=DataConfig(name=data), model=ModelConfig(name=model))
    event = msgspec.structs.replace(prepared(), config=config)
    cleaned = sanitized(event).config
    assert (cleaned.data.name, cleaned.model.name) == says
    assert (event.config.data.name, event.config.model.name) == (data, model)
    assert cleaned.training == config.training
