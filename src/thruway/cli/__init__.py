"""The `thruway` command."""

from thruway.cli.main import main

__all__ = ["main"]
