"""The command line: `finetui` and its subcommands, and what they print."""
