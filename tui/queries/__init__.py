"""Questions to the engine, and their answers."""
