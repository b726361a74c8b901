"""The exceptions raised by Thruway.

    ThruwayError
    ├── ConfigError       an argument or setting is invalid           (ValueError)
    ├── ShapeError        shapes of tensors or layers do not match    (ValueError)
    ├── InitError         a parameter cannot be initialised           (ValueError)
    ├── DatasetError      a data set is missing, damaged or wrong     (ValueError)
    └── RunError          a run folder cannot be read or written      (RuntimeError)
        └── CheckpointError   a checkpoint is damaged or does not match the model

Each exception also derives from the built-in exception in parentheses, so `except ValueError` works. A message states
the value received, the values allowed, and how to correct the error.
"""

import difflib
from collections.abc import Iterable

__all__ = [
    "CheckpointError",
    "ConfigError",
    "DatasetError",
    "InitError",
    "RunError",
    "ShapeError",
    "ThruwayError",
    "unknown_name",
]


class ThruwayError(Exception):
    """Base class of all exceptions raised by Thruway."""


class ConfigError(ThruwayError, ValueError):
    """An argument or setting is invalid."""


class ShapeError(ThruwayError, ValueError):
    """The shapes of tensors or layers do not match."""


class InitError(ThruwayError, ValueError):
    """A parameter cannot be initialised in the requested way."""


class DatasetError(ThruwayError, ValueError):
    """A data set is missing, damaged or of the wrong kind."""


class RunError(ThruwayError, RuntimeError):
    """A run folder cannot be read or written."""


class CheckpointError(RunError):
    """A checkpoint is damaged, or belongs to another model."""


def unknown_name(kind: str, name: object, known: Iterable[str]) -> str:
    """Return the error message for an unknown name, with the closest known name and a list of all.

    >>> unknown_name("activation", "rleu", ["relu", "tanh"])
    "unknown activation 'rleu'; did you mean 'relu'? Known: relu, tanh."
    """
    names = sorted(known)
    close = difflib.get_close_matches(str(name), names, n=1, cutoff=0.5)
    hint = f"; did you mean {close[0]!r}?" if close else "."
    return f"unknown {kind} {name!r}{hint} Known: {', '.join(names)}."
