"""Alias of thruway.runs.record."""

# alias until the dissecting files follow
from thruway.runs.record import hardware, versions

__all__ = ["hardware", "versions"]
