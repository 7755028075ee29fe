"""One small network of each family of timm: built, its head replaced, and a step with all else frozen."""

import pytest
import torch
from torch.nn import functional as F

from finetui.engine.models import Architecture, build, find_head, module_groups, replace_head
from finetui.engine.models.architecture import example
from finetui.engine.models.hub_models import own_input
from finetui.engine.protocol.config import TrainingConfig
from finetui.engine.training.freezing import Freezer
from finetui.engine.training.optimizer import build_optimizer

pytestmark = [pytest.mark.peers, pytest.mark.slow]
timm = pytest.importorskip("timm")

# The smallest of each family, as its module is called.
_SMALLEST = """
    beit_base_patch16_224 halonet_h1 test_byobnet cait_xxs24_224 coat_tiny convit_tiny convmixer_768_32
    test_convnext cpubone_nano crossvit_tiny_240 csatv2 cs3darknet_focus_s cspnext_tiny davit_tiny deepseek_vit_412m
    deit_tiny_patch16_224 densenet121 dla46x_c dpn48b edgenext_xx_small efficientformer_l1 efficientformerv2_s0
    test_efficientnet efficientvim_m1 efficientvit_b0 efficientvit_m0 eva02_tiny_patch14_224 fasternet_t0 fastvit_t8
    focalnet_tiny_srf gcvit_xxtiny gemma4_vit_167m ghostnet_050 hardcorenas_b hgnetv2_b0 hiera_tiny_224
    sam2_hiera_tiny hrnet_w18_small iformer_t inception_next_atto inception_resnet_v2 inception_v3 inception_v4
    lcnetv2_small levit_128s lowformer_b0 test_mambaout test_coatnet poolformerv2_s12 gmlp_ti16_224
    mobilenetv3_small_050 mobilenetv5_base mobilevit_xxs mvitv2_tiny naflexvit_base_patch16_parfac_gap nasnetalarge
    nest_tiny nextvit_small test_nfnet pit_ti_224 pnasnet5large pvt_v2_b0 qwen3_vit_88m rdnet_tiny regnetx_002
    repghostnet_050 repvit_m1 res2next50 resnest14d test_resnet resnetv2_18 rexnet_100 selecsls42 legacy_seresnet18
    sequencer2d_s shvit_s1 skresnet18 starnet_s050 swiftformer_xs swin_tiny_patch4_window7_224
    swinv2_tiny_window8_256 swinv2_cr_tiny_224 tiny_vit_5m_224 tnt_s_legacy_patch16_224 tresnet_m twins_svt_small
    vgg11 visformer_tiny test_vit vit_tiny_r_s16_p8_224 test_vit_relpos samvit_base_patch16_224 vitamin_small_224
    volo_d1_224 ese_vovnet19b_slim_dw legacy_xception xception41p xcit_nano_12_p8_224
"""
# Their authors' sizes, 546 and 768 pixels, take minutes on a processor.
_SMALLER = {"deepseek_vit_412m": 224, "gemma4_vit_167m": 192}
_ONLY_COLOUR = ("csatv2",)  # its stem is a cosine transform of three channels
NUMBERS = torch.randn(2**20, generator=torch.Generator().manual_seed(0)) * 0.02


def families() -> list[str]:
    """Return a network of each family; of those that a newer version has, the first one."""
    known = {module: name for name in _SMALLEST.split() if timm.is_model(name) for module in [_module(name)]}
    return [known.get(module) or timm.list_models(module=module)[0] for module in timm.list_modules()]


def _module(name: str) -> str:
    return str(timm.model_entrypoint(name).__module__.rpartition(".")[2])


@pytest.fixture(autouse=True)
def _quick_initialisation(monkeypatch: pytest.MonkeyPatch) -> None:
    """Drawing two billion random numbers takes longer than all the rest."""

    def fill(tensor: torch.Tensor, *_args: object, **_options: object) -> torch.Tensor:
        flat = tensor.data.view(-1)
        for start in range(0, len(flat), len(NUMBERS)):
            piece = flat[start : start + len(NUMBERS)]
            piece.copy_(NUMBERS[: len(piece)])
        return tensor

    for name in ("uniform_", "normal_", "trunc_normal_", "kaiming_uniform_", "kaiming_normal_", "xavier_uniform_"):
        monkeypatch.setattr(torch.nn.init, name, fill)


@pytest.mark.parametrize("name", families())
def test_a_step_with_the_backbone_frozen(name: str) -> None:
    stated = own_input(f"timm:{name}", "")
    channels = 3 if name in _ONLY_COLOUR else 1
    height, width = (_SMALLER.get(name, side) for side in (stated.height, stated.width))
    wanted = Architecture(name=f"timm:{name}", num_classes=5, in_channels=channels, height=height, width=width)
    model = build(wanted, 0)
    images = torch.randn(2, channels, height, width, generator=torch.Generator().manual_seed(0))
    head = find_head(model, example(wanted))
    replace_head(model, head, 5, 0)
    groups = module_groups(model, [head])
    heads = [layer.name for group in groups if group.head for layer in group.layers]
    assert head in heads
    optimizer = build_optimizer(groups, TrainingConfig(optimizer="sgd", lr=0.1))
    freezer = Freezer(model, groups, optimizer)
    freezer.set(freezer.layers_of([group.name for group in groups if not group.head]), frozen=True)
    before = {key: tensor.clone() for key, tensor in model.state_dict().items()}
    logits = model(images)
    assert logits.shape == (2, 5)
    F.cross_entropy(logits, torch.tensor([0, 4])).backward()
    optimizer.step()
    moved = {key for key, tensor in model.state_dict().items() if not torch.equal(tensor, before[key])}
    assert moved
    assert all(key.rpartition(".")[0] in heads or key in heads for key in moved), sorted(moved)
    assert sum(len(group.parameters) for group in groups) == len(list(model.parameters()))
