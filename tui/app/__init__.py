"""The Textual app: opening, leaving, notifications, theme."""
