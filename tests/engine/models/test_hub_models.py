"""Names of networks that other libraries have: without them, misspelt, and of which one."""

import importlib.util
from pathlib import Path

import pytest

from finetui.engine.errors import BadInput
from finetui.engine.models import Architecture, build, check_model
from finetui.engine.models.hub_models import definition_of, is_timm
from finetui.engine.protocol.config import ModelConfig, RunConfig, is_factory
from finetui.engine.protocol.model_names import hub_name, hub_of, is_local
from finetui.engine.protocol.paths import absolute_places, short
from finetui.engine.runs.folder import default_run_name
from finetui.engine.runs.trust import check_trusted

TIMM = importlib.util.find_spec("timm") is not None


@pytest.mark.parametrize(
    ("name", "hub", "rest"),
    [
        ("timm:resnet18.a1_in1k", "timm", "resnet18.a1_in1k"),
        ("hf:google/vit-base", "hf", "google/vit-base"),
        ("hf:./folder", "hf", "./folder"),
        ("resnet18", "", "resnet18"),
        ("hf:factory", "", "hf:factory"),  # of a module of a person's own
        ("nets.py:timm", "", "nets.py:timm"),
    ],
)
def test_a_name_says_whose_it_is(name: str, hub: str, rest: str) -> None:
    assert (hub_of(name), hub_name(name)) == (hub, rest)
    assert ModelConfig(name=name).name == name
    assert is_factory(name) == (not hub and ":" in name)
    if hub:  # it is no code of a person's own, so nobody has to say that they trust it
        assert check_trusted("it is", name, "--model", None) == name


@pytest.mark.parametrize("name", ["timm:", "timm:../x", "timm:a/b", "hf:a/b/c", "hf:org/", "tim:resnet18/x"])
def test_what_is_no_name_is_refused(name: str) -> None:
    with pytest.raises(BadInput, match="timm:NAME, hf:ORG/NAME"):
        ModelConfig(name=name)


@pytest.mark.parametrize(
    ("name", "meant"),
    [
        ("hf:nope", "hf:ORG/NAME"),
        ("HF:nope", "hf:ORG/NAME"),
        ("TIMM:resnet18", "timm:resnet18"),
        ("hf:mine", "hf:./mine"),
    ],
)
def test_a_name_without_its_owner_is_no_module(
    name: str, meant: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "mine").mkdir()
    monkeypatch.chdir(tmp_path)
    with pytest.raises(BadInput, match=rf"there is no model '{name}'; .* networks are written .*{meant}"):
        check_model(name)
    (tmp_path / "hf.py").write_text("nope = dict")
    check_model("hf:nope")  # a person's own


def test_a_folder_means_the_same_anywhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    found = absolute_places(RunConfig(model=ModelConfig(name="hf:./nets/vit"))).model.name
    assert found == f"hf:{tmp_path}/nets/vit"
    assert is_local(found)
    assert short(found) == "hf:vit"
    assert default_run_name("mnist", found).endswith("-mnist-vit")
    assert default_run_name("mnist", "timm:resnet18").endswith("-mnist-timm-resnet18")
    assert absolute_places(RunConfig(model=ModelConfig(name="hf:org/vit"))).model.name == "hf:org/vit"


@pytest.mark.parametrize(
    ("name", "library", "extra"), [("timm:resnet18", "timm", "timm"), ("hf:org/vit", "huggingface_hub", "hf")]
)
def test_a_missing_library_is_one_sentence(
    name: str, library: str, extra: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = importlib.util.find_spec
    monkeypatch.setattr(importlib.util, "find_spec", lambda module: None if module == library else real(module))
    said = rf"{name} needs {library}, which is not installed; pip install 'finetui\[{extra}\]'"
    with pytest.raises(BadInput, match=said):
        check_model(name)
    if extra == "timm":  # a run that was trained with it
        with pytest.raises(BadInput, match=said):
            build(Architecture(name=name, num_classes=2, in_channels=3, height=32, width=32), 0)


def test_a_definition_has_no_class_names_and_no_code() -> None:
    found = definition_of({"model_type": "vit", "id2label": {"0": "cat"}, "auto_map": {"AutoConfig": "x.Y"}}, {})
    assert "cat" not in found
    assert "auto_map" not in found
    assert not is_timm("hf:org/vit", found)
    assert is_timm("hf:timm/vit", definition_of({"architecture": "vit_tiny_patch16_224"}, {}))


@pytest.mark.peers
@pytest.mark.skipif(not TIMM, reason="needs timm")
@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("timm:resnt18", "timm has no model 'resnt18'; did you mean timm:resnet18"),
        ("timm:resnet18.nobody", "timm has no weights 'nobody' of resnet18; it has: a1_in1k"),
        ("vit_tiny_patch16_224", "there is no model 'vit_tiny_patch16_224'; timm has it: --model timm:vit_tiny_patch"),
    ],
)
def test_a_name_that_is_not_there(name: str, said: str) -> None:
    with pytest.raises(BadInput, match=said):
        check_model(name)


@pytest.mark.peers
@pytest.mark.skipif(not TIMM, reason="needs timm")
def test_patches_must_fit_and_both_heads_of_a_distilled_network_are_heads() -> None:
    from finetui.engine.models import find_head, module_groups
    from finetui.engine.models.architecture import example

    size = {"num_classes": 3, "in_channels": 1}
    with pytest.raises(BadInput, match="its patches have 16x16"):
        build(Architecture(name="timm:vit_tiny_patch16_224", height=40, width=40, **size), 0)
    wanted = Architecture(name="timm:deit_tiny_distilled_patch16_224", height=32, width=32, **size)
    model = build(wanted, 0)
    groups = module_groups(model, [find_head(model, example(wanted))])
    assert [group.name for group in groups if group.head] == ["head", "head_dist"]
