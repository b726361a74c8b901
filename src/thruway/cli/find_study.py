"""Alias of thruway.cli.run."""

# alias until the dissecting files follow
from thruway.cli.run import study_of_run

__all__ = ["study_of_run"]
