"""Runs the command: `python -m marginalia.scoring`, or in a checkout also `python -m scoring`."""

import sys

from marginalia.scoring.command import main

if __name__ == "__main__":
    sys.exit(main())
