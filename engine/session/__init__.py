"""A run from its preparation to its end: the loop, evaluations, checkpoints, questions, replay."""
