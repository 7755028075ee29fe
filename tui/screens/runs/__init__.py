"""The Runs screen: all runs of a folder, and several of them side by side."""
