"""The Train screen, with its widgets and dialogs."""
