"""The Log screen, with its widgets."""
