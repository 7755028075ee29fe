"""Runs that others wrote down: event files, CSV, JSON lines, Trainer states, databases, read as they grow. No torch."""
