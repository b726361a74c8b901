"""Messages of `thruway watch` to the user, on the standard error."""

import contextlib
import sys

__all__ = ["say", "write_line"]


def say(message: str) -> None:
    """Print a line for the user, on the standard error."""
    write_line(f"thruway watch: {message}")


def write_line(line: str) -> None:
    """Write to the standard error that the process began with, if it is still open."""
    with contextlib.suppress(Exception):
        print(line, file=sys.__stderr__, flush=True)
