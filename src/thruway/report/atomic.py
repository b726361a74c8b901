"""Alias of thruway.runs.files."""

# alias until the dissecting files follow
from thruway.runs.files import write_atomically

__all__ = ["write_atomically"]
