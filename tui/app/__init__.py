"""The app over all screens, and how it is opened."""

from finetui.tui.left_out import left_out

# Without `ssl` asyncio speaks no TLS, which no dashboard does; OpenSSL takes 5 MB and Textual imports asyncio.
with left_out("ssl"):
    import asyncio  # noqa: F401
