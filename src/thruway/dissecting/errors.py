"""Errors of a dissection."""

from thruway.errors import ThruwayError

__all__ = ["DissectError", "TapeMismatchError"]


class DissectError(ThruwayError, RuntimeError):
    """Raised if a model, or one pass through it, cannot be dissected."""


class TapeMismatchError(DissectError):
    """Raised if a pass makes other calls than the recorded pass."""
