"""A Vision Transformer for digits with the Trainer: transforms, a collator, metrics, arguments, an evaluation."""

import sys
from typing import Any

import torch
from digits import Digits
from transformers import AutoModelForImageClassification, Trainer, TrainingArguments, ViTConfig

import finetui


class Transformed(torch.utils.data.Dataset):
    def __init__(self, part: str, count: int) -> None:
        self.digits = Digits(part, count)

    def __len__(self) -> int:
        return len(self.digits)

    def __getitem__(self, index: int) -> dict[str, Any]:
        image, label = self.digits[index]
        return {"image": (image - 0.5) / 0.5, "label": int(label)}


def collate(examples: list[dict[str, Any]]) -> dict[str, torch.Tensor]:
    return {
        "pixel_values": torch.stack([example["image"] for example in examples]),
        "labels": torch.tensor([example["label"] for example in examples]),
    }


def compute_metrics(predicted: Any) -> dict[str, float]:
    return {"accuracy": float((predicted.predictions.argmax(1) == predicted.label_ids).mean())}


if __name__ == "__main__":
    torch.manual_seed(1)
    config = ViTConfig(
        image_size=28, patch_size=7, num_channels=1, hidden_size=32, num_hidden_layers=2, num_attention_heads=2,
        intermediate_size=64, id2label=dict(enumerate(Digits.classes)),
        label2id={name: place for place, name in enumerate(Digits.classes)},
    )  # fmt: skip
    trainer = Trainer(
        model=AutoModelForImageClassification.from_config(config),
        args=TrainingArguments(
            output_dir=sys.argv[1] + "/trainer", use_cpu=True, report_to="none", disable_tqdm=True, learning_rate=0.001,
            warmup_steps=10, num_train_epochs=1000, per_device_train_batch_size=32, eval_strategy="epoch",
            save_strategy="no", remove_unused_columns=False, dataloader_pin_memory=False,
        ),
        data_collator=collate,
        train_dataset=Transformed("train", 1000),
        eval_dataset=Transformed("t10k", 200),
        compute_metrics=compute_metrics,
        callbacks=[finetui.TransformersCallback(runs_dir=sys.argv[1] + "/runs")],
    )  # fmt: skip
    trainer.train()
    print(trainer.evaluate())
