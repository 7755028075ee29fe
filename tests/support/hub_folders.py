"""Folders as repositories of the Hugging Face hub lie on a machine: tiny networks with random weights."""

import json
from pathlib import Path

import torch


def save_vit(folder: Path, labels: int = 7) -> Path:
    """Save a tiny ViT of transformers for images of 32x32 pixels, and what says how they are prepared."""
    import transformers

    config = transformers.ViTConfig(
        hidden_size=32, num_hidden_layers=3, num_attention_heads=2, intermediate_size=64, image_size=32, patch_size=8,
        num_labels=labels,
    )  # fmt: skip
    images = {"size": {"height": 32, "width": 32}, "image_mean": [0.4] * 3, "image_std": [0.2] * 3, "resample": 2}
    return _save(folder, config, images)


def save_resnet(folder: Path, labels: int = 7) -> Path:
    """Save a tiny ResNet of transformers, whose images are scaled to 36 pixels and cut to 32."""
    import transformers

    config = transformers.ResNetConfig(
        embedding_size=8, hidden_sizes=[8, 16], depths=[1, 1], layer_type="basic", num_labels=labels
    )
    images = {"size": {"shortest_edge": 32}, "crop_pct": 0.875, "image_mean": [0.5] * 3, "image_std": [0.25] * 3}
    return _save(folder, config, images | {"resample": 3})


def _save(folder: Path, config: object, images: dict[str, object]) -> Path:
    import transformers

    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        transformers.utils.logging.disable_progress_bar()
        transformers.AutoModelForImageClassification.from_config(config).save_pretrained(folder)
    (folder / "preprocessor_config.json").write_text(json.dumps(images))
    return folder


def save_timm(folder: Path, name: str = "test_resnet", labels: int = 7) -> Path:
    """Save a network of timm as timm itself does for the hub."""
    import timm
    from timm.models import save_for_hf

    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        model = timm.create_model(name, num_classes=labels)
    save_for_hf(model, folder, safe_serialization=True)
    return folder
