"""Errors of a dissection."""

from thruway.errors import ThruwayError

__all__ = ["DissectError", "TapeMismatchError"]


class DissectError(ThruwayError, RuntimeError):
    """A model, or one pass through it, cannot be dissected."""


class TapeMismatchError(DissectError):
    """A pass made other calls than the recorded one."""
