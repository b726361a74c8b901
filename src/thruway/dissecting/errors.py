"""What the dissection refuses, and a run that left its tape."""

from thruway.errors import ThruwayError

__all__ = ["DetourError", "DissectError"]


class DissectError(ThruwayError, RuntimeError):
    """A model, or one pass through it, cannot be dissected."""


class DetourError(DissectError):
    """A pass made other calls than the one that was recorded."""
