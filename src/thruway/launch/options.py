"""Settings of a watched program."""

from dataclasses import dataclass
from pathlib import Path

__all__ = ["WatchSettings"]


@dataclass(frozen=True)
class WatchSettings:
    """What is recorded of a program, and where it is saved.

    Attributes:
        every: n to record every n-th training step.
        quantities: names from QUANTITIES; the default ones if empty.
        memory: maximum size of the numbers of one trace in memory, in bytes.
        folder: folder of the traces. If None, thruway-watch in the current folder, numbered if it exists.
    """

    every: int = 1
    quantities: tuple[str, ...] = ()
    memory: int = 256 << 20
    folder: Path | None = None
