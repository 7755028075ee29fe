"""Several runs side by side: curves, settings, scores, errors."""
