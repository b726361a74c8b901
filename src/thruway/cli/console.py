"""Console output: the console itself, tables, progress, durations."""

from rich.console import Console

from thruway.cli.console_table import as_rich
from thruway.cli.progress import console_progress

__all__ = ["as_rich", "console_progress", "duration", "out"]

out = Console(highlight=False)


def duration(seconds: float) -> str:
    """Format a duration.

    >>> duration(12.3), duration(125)
    ('12 s', '2 min 5 s')
    """
    minutes, rest = divmod(round(seconds), 60)
    return f"{minutes} min {rest} s" if minutes else f"{rest} s"
