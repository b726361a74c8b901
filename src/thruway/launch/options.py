"""Settings of a watched program."""

from dataclasses import dataclass
from pathlib import Path

__all__ = ["WatchSettings"]


@dataclass(frozen=True)
class WatchSettings:
    """Settings of a watched program: recorded steps and quantities, and the folder of the traces.

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
