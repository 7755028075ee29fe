"""`python -m finetui`: the same as `finetui`."""

from finetui.tui.cli.main import main

main()
