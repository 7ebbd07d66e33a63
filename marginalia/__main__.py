"""Makes `python -m marginalia` the same as the command `marginalia`."""

from marginalia.pipeline.commands.cli import main

main()
