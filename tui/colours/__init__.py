"""Which colours the terminal has, and the palettes chosen for them."""
