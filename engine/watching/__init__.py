"""A person's own training loop as a run: recorded, shown and steered like finetui's own, and never the worse for it."""
