"""The `thruway` command-line interface."""

from thruway.cli.main import main

__all__ = ["main"]
