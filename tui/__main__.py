"""`python -m tui`: the same as `finetui`."""

from tui.cli import main

main()
