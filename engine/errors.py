"""Errors that a person can do something about."""


class FinetuiError(Exception):
    """A failure with a message for people: what, where, and what to do, in one sentence."""


class BadInput(FinetuiError):
    """Something the caller passed cannot be used; the command line exits with status 2."""


class Cancelled(FinetuiError):
    """A person asked to stop while something long (a download, say) was under way."""
