"""The Errors screen, with its widgets and dialogs."""
