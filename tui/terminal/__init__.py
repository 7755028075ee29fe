"""The terminal as a device: reading it, writing to it, and giving it back."""
