"""Run folders and what is in them: lock, journal, kept checkpoints, summaries. Torch is not needed."""
