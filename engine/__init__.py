"""The engine: trains, evaluates, saves, obeys. It knows no user interface."""
