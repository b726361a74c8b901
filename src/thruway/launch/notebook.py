"""Watching of the cells of a notebook, from `%load_ext thruway` on."""

import atexit
import warnings
from collections.abc import Callable, Sequence
from typing import Any

from thruway.launch.messages import say
from thruway.launch.options import WatchSettings
from thruway.launch.saving import Destination, Watched
from thruway.launch.torch_import import after_torch_import

__all__ = ["Notebook"]


class Notebook:
    """Watches everything that later cells train, and shows it after each cell in which something was trained.

    The line magic `%thruway` returns the list of the traces. They are saved when the extension is unloaded, or when
    the kernel ends.

    Args:
        shell: the InteractiveShell of IPython.
        settings: what to record.
        show: function called with the traces to show after a cell.
        finish: function called at the end with the saved traces.
    """

    def __init__(
        self,
        shell: Any,
        settings: WatchSettings,
        show: Callable[[Sequence[Any]], None],
        finish: Callable[[Sequence[Watched]], None],
    ) -> None:
        self._shell = shell
        self._show = show
        self._finish = finish
        self._settings = settings
        self._destination = Destination(settings.folder, {})
        self._session: Any = None
        self._shown: dict[int, int] = {}
        self._cancel = after_torch_import(self._watch)
        shell.events.register("post_run_cell", self._after_cell)
        shell.register_magic_function(self.traces, "line", "thruway")
        atexit.register(self.close)

    def _watch(self) -> None:
        from thruway.launch.session import Session

        self._session = Session(self._settings, say)
        self._session.open()

    def traces(self, _line: str = "") -> list[Any]:
        """Return the traces recorded so far."""
        return [] if self._session is None else [recording.trace for recording in self._session.recordings]

    def _after_cell(self, _result: Any = None) -> None:
        """Show the traces that have grown."""
        try:
            grown = [trace for trace in self.traces() if len(trace.steps) > self._shown.get(id(trace), 0)]
            self._shown |= {id(trace): len(trace.steps) for trace in grown}
            if grown:
                self._show(grown)
        except Exception as error:
            say(f"the traces cannot be shown: {type(error).__name__}: {error}")

    def close(self) -> None:
        """Watch no longer, and save the traces."""
        atexit.unregister(self.close)
        self._cancel()
        self._shell.events.unregister("post_run_cell", self._after_cell)
        session, self._session = self._session, None
        if session is None:
            return
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")
                session.close()
                watched = self._destination.save(session.recordings)
                if watched:
                    self._finish(watched)
        except Exception as error:
            say(f"the traces cannot be saved: {type(error).__name__}: {error}")
