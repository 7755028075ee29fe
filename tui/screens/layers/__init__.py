"""The Layers screen, with its widgets."""
