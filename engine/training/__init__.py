"""Training: the step, freezing and parameter groups, the learning rate, finetuning."""
