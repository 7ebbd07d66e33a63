"""`python -m scoring` in a checkout; where Marginalia is installed: `python -m marginalia.scoring`."""

import sys

from marginalia.scoring.command import main

if __name__ == "__main__":
    sys.exit(main())
