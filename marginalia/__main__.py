"""`python -m marginalia` is the command `marginalia`."""

from marginalia.pipeline.commands.cli import main

main()
