"""Checkpoint files: sealed, and audited before torch reads them."""
