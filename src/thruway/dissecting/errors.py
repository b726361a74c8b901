"""What the dissection refuses, and a run that left its tape."""

from thruway.errors import ThruwayError

__all__ = ["DissectError", "TapeMismatchError"]


class DissectError(ThruwayError, RuntimeError):
    """A model, or one pass through it, cannot be dissected."""


class TapeMismatchError(DissectError):
    """A pass made other calls than the one that was recorded."""
