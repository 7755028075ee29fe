"""Layer-wise decay of the learning rate: the further a layer group is from the head, the less it moves.

The rate of a group is the run's times `decay ** depth`, where the depth of the head is 0, that of the group below it 1,
and so on down to the stem: `layer_decay` of BEiT (Bao et al., "BEiT: BERT pre-training of image transformers", 2021,
appendix; `LayerDecayValueAssigner` in its optim_factory.py), as in MAE (util/lr_decay.py) and timm
(`param_groups_layer_decay`). It comes from ELECTRA (Clark et al., 2020). These count the blocks of a transformer, one
layer each; here it is the layer groups that are counted: of a vision transformer the same, but that BEiT and MAE give
the last normalisation the head's rate, and timm, as here, that of the last block; of a convolutional network its
stages, where timm counts blocks.
"""

from collections.abc import Sequence

import msgspec

from finetui.engine.models import ModuleGroup
from finetui.engine.training.recipes import Stage


def layer_factors(groups: Sequence[ModuleGroup], decay: float) -> dict[str, float]:
    """Return by what the learning rate of each layer is multiplied, for groups from the stem up to the head.

    Groups that the forward pass does not reach have no depth. All heads have depth 0.
    """
    if decay == 1:
        return {}
    body = [group for group in groups if group.in_use and not group.head]
    factors = {layer.name: 1.0 for group in groups if group.head for layer in group.layers}
    for depth, group in enumerate(reversed(body), start=1):
        factors |= {layer.name: decay**depth for layer in group.layers}
    return factors


def decayed(plan: Sequence[Stage], groups: Sequence[ModuleGroup], decay: float) -> tuple[Stage, ...]:
    """Return `plan` with the learning rates of all its stages decayed, layer group by layer group."""
    own = layer_factors(groups, decay)
    if not own:
        return tuple(plan)
    return tuple(
        msgspec.structs.replace(
            stage, factors=own | {layer: factor * own.get(layer, 1.0) for layer, factor in stage.factors.items()}
        )
        for stage in plan
    )
