"""Networks by name, their weights, and their layer groups."""

from finetui.engine.models.architecture import (
    Architecture,
    build,
    check_model,
    fit_input,
    known_models,
    supports_feature_head,
)
from finetui.engine.models.groups import ModuleGroup, ModuleLayer, module_groups
from finetui.engine.models.heads import find_head, replace_head
from finetui.engine.models.lenet import LeNet
from finetui.engine.models.stems import adapt_stem
from finetui.engine.models.transplant import NEW_LAYER, HeadRows, Transplant, apply_transplant, plan_transplant

__all__ = [
    "NEW_LAYER",
    "Architecture",
    "HeadRows",
    "LeNet",
    "ModuleGroup",
    "ModuleLayer",
    "Transplant",
    "adapt_stem",
    "apply_transplant",
    "build",
    "check_model",
    "find_head",
    "fit_input",
    "known_models",
    "module_groups",
    "plan_transplant",
    "replace_head",
    "supports_feature_head",
]
