"""Entry point of `python -m thruway.watch`, the same as the `thruway watch` command.

The name `thruway.watch` remains the function also after this module has been imported: see `thruway/__init__.py`.
"""

import sys

from thruway.cli import main

if __name__ == "__main__":
    sys.exit(main(["watch", *sys.argv[1:]]))
