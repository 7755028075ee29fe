"""The first screen: what to train, or which run to go to."""
