"""The app over all screens, and how it is opened."""

from finetui.tui.without_modules import without_modules

# Without `ssl` asyncio speaks no TLS, which no dashboard does; OpenSSL takes 5 MB and Textual imports asyncio.
with without_modules("ssl"):
    import asyncio  # noqa: F401
