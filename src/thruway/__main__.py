"""`python -m thruway` is the `thruway` command."""

import sys

from thruway.cli import main

if __name__ == "__main__":
    sys.exit(main())
