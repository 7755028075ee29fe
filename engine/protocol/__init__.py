"""What travels between the engine and whoever watches it: configuration, commands, events and their values."""
