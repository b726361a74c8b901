"""Entry point of `python -m thruway`, the same as the `thruway` command."""

import sys

from thruway.cli import main

if __name__ == "__main__":
    sys.exit(main())
