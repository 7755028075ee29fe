"""One run on many devices: who is which rank, and what the ranks tell each other."""
