"""The command, called as a user would, and what it said."""

from typing import NamedTuple

import pytest

from thruway.cli import main

# A search of a second.
TINY = ["--depths", "2", "--trials", "2", "--epochs", "2", "--examples", "100", "--batch", "50", "--highway-width", "4"]
RUN = ["run", "highway2015.depth"]


class Said(NamedTuple):
    code: int
    out: str
    err: str

    @property
    def all(self) -> str:
        """Both streams in one line: the console wraps where it likes, and frames what it refuses."""
        return " ".join((self.out + self.err).replace("│", " ").split())


def call(capsys: pytest.CaptureFixture[str], *arguments: str) -> Said:
    capsys.readouterr()
    code = main([str(argument) for argument in arguments])
    return Said(code, *capsys.readouterr())
