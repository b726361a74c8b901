"""The IPython extension `%load_ext thruway`."""

import sys
from collections.abc import Sequence
from typing import Any

from thruway.cli.watch_findings import diagnosis_of, show_findings
from thruway.launch import Notebook, WatchSettings

__all__ = ["load", "unload"]

_loaded: list[Notebook] = []


def load(shell: Any) -> None:
    """Watch all later cells of `shell`, an IPython InteractiveShell."""
    if not _loaded:
        _loaded.append(Notebook(shell, WatchSettings(), _show, show_findings))


def unload(_shell: Any) -> None:
    """End the watching, and save the traces."""
    while _loaded:
        _loaded.pop().close()


def _show(traces: Sequence[Any]) -> None:
    for trace in traces:
        print(diagnosis_of(trace), file=sys.stderr)
