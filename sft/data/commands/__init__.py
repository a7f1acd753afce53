"""The subcommands of `python -m sft.data`, one file each: `add_arguments(parser)` and `run`."""
