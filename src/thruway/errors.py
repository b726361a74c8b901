"""Every exception Thruway raises on purpose.

    ThruwayError
    ├── ConfigError       a value the user chose is not allowed       (ValueError)
    ├── ShapeError        tensors or layers do not fit together       (ValueError)
    ├── InitError         a parameter cannot be initialised that way  (ValueError)
    ├── DatasetError      data missing, damaged or of the wrong kind  (ValueError)
    └── RunError          a run folder cannot be read or written      (RuntimeError)
        └── CheckpointError   a checkpoint is damaged or does not fit

Each also is the built-in it refines, so `except ValueError` keeps working. A message says what
came, what is allowed, and what to do.
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
    """Anything Thruway refuses or cannot do."""


class ConfigError(ThruwayError, ValueError):
    """A value the user chose is not allowed."""


class ShapeError(ThruwayError, ValueError):
    """Tensors or layers do not fit together."""


class InitError(ThruwayError, ValueError):
    """A parameter cannot be initialised the way it was asked."""


class DatasetError(ThruwayError, ValueError):
    """A data set is missing, damaged, or not what its name says."""


class RunError(ThruwayError, RuntimeError):
    """A run folder cannot be read or written."""


class CheckpointError(RunError):
    """A checkpoint is damaged, or belongs to another model."""


def unknown_name(kind: str, name: object, known: Iterable[str]) -> str:
    """The sentence for a name that is not in a table, with the nearest one that is.

    >>> unknown_name("activation", "rleu", ["relu", "tanh"])
    "unknown activation 'rleu'; did you mean 'relu'? Known: relu, tanh."
    """
    names = sorted(known)
    near = difflib.get_close_matches(str(name), names, n=1, cutoff=0.5)
    hint = f"did you mean {near[0]!r}? " if near else ""
    return f"unknown {kind} {name!r}; {hint}Known: {', '.join(names)}."
