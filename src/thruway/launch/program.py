"""A program that is run to its end while it is watched."""

import contextlib
import os
import signal
import sys
import threading
import types
import warnings
from collections.abc import Callable, Sequence
from types import FrameType, TracebackType
from typing import TYPE_CHECKING

from thruway.errors import ThruwayError
from thruway.launch.messages import say
from thruway.launch.options import WatchSettings
from thruway.launch.saving import Destination, Watched
from thruway.launch.script import Script
from thruway.launch.signals import child_signals_ignored
from thruway.launch.torch_import import after_torch_import

if TYPE_CHECKING:
    from thruway.launch.session import Session

__all__ = ["Program"]

OURS = tuple(os.path.join(os.path.dirname(os.path.dirname(__file__)), room, "") for room in ("launch", "watching"))

Finish = Callable[[Sequence[Watched]], None]


class Program:
    """A script, and the watching of everything that it trains.

    The recorded traces are saved, and passed to `finish`, when the script ends: at its last line, by an exception,
    Ctrl-C, `sys.exit` or SIGTERM. They are lost if the process is ended by SIGKILL or `os._exit`. A process that the
    script forks records nothing, and neither does one that it spawns.

    Args:
        script: the script.
        settings: what to record.
        destination: where to save it.
        finish: function called at the end with the traces.
    """

    def __init__(self, script: Script, settings: WatchSettings, destination: Destination, finish: Finish) -> None:
        self._script = script
        self._settings = settings
        self._destination = destination
        self._finish = finish
        self._session: Session | None = None
        self._is_open = False
        self._is_terminated = False
        self._has_begun = False

    def run(self) -> int:
        """Run the script, and return the exit code 0. Its exceptions are raised, after they have been shown.

        The caller has to let them pass, so that the python command ends as it would without us: with exit code 1, the
        argument of `sys.exit`, or the signal of Ctrl-C.
        """
        self._begin()
        code: types.CodeType | None = None
        try:
            code, module = self._script.load()
            self._has_begun = True
            types.FunctionType(code, vars(module))()  # a module's code runs in its namespace, as with exec
        except SystemExit:
            self._end()
            raise
        except BaseException as error:
            _show_as_python_does(error, code)
            self._end()
            _show_no_more(error)
            raise
        self._end()
        return 0

    # Begin and end

    def _begin(self) -> None:
        self._is_open = True
        self._cancel = after_torch_import(self._watch)
        self._guard_forks()
        # A script that handles SIGTERM itself replaces this handler.
        if threading.current_thread() is threading.main_thread() and signal.getsignal(signal.SIGTERM) == signal.SIG_DFL:
            signal.signal(signal.SIGTERM, self._on_sigterm)

    def _watch(self) -> None:
        """Begin to watch; torch has just been imported."""
        try:
            from thruway.launch.session import Session

            self._session = Session(self._settings, say)
            self._session.open()
        except Exception as error:
            say(f"nothing is recorded: {type(error).__name__}: {error}")

    def _end(self) -> None:
        """Save the traces, and show them."""
        if not self._is_open:
            return
        self._is_open = False
        self._cancel()
        try:
            with child_signals_ignored(), warnings.catch_warnings():
                warnings.simplefilter("ignore")
                self._save()
        except KeyboardInterrupt:
            say("interrupted: the traces may be incomplete")
        except Exception as error:
            say(f"the traces could not be saved or shown: {type(error).__name__}: {error}")
        self._restore_signal()
        if self._is_terminated:
            os.kill(os.getpid(), signal.SIGTERM)

    def _save(self) -> None:
        if self._session is None:
            if self._has_begun:
                say("nothing was recorded: the script did not import torch")
            return
        self._session.close()
        recordings = self._session.recordings
        if not recordings:
            say(
                "nothing was recorded: the script called no torch.nn.Module with trainable parameters and gradients "
                "enabled, or only inside compiled code or in processes that it started"
            )
        watched = self._destination.save(recordings)
        if watched:
            self._finish(watched)

    # Forks

    def _guard_forks(self) -> None:
        """Record nothing in processes that the script forks, in which SIGTERM is not handled either.

        SIGTERM is blocked meanwhile: Python would forget one that arrives before the handler is removed.
        """
        masks: list[set[signal.Signals]] = []

        def before() -> None:
            if self._is_open:
                masks.append(signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGTERM}))  # type: ignore[arg-type]

        def after() -> None:
            if masks:
                signal.pthread_sigmask(signal.SIG_SETMASK, masks.pop())

        def after_in_child() -> None:
            with contextlib.suppress(Exception):
                self._forked()
            after()

        os.register_at_fork(before=before, after_in_parent=after, after_in_child=after_in_child)

    def _forked(self) -> None:
        if not self._is_open:
            return
        self._is_open = False
        self._cancel()
        self._restore_signal()
        if self._session is not None:
            self._session.silence()

    # SIGTERM

    def _on_sigterm(self, number: int, _frame: FrameType | None) -> None:
        """Save the traces, or let the saving that has begun end, and die by the signal as without us."""
        signal.signal(number, signal.SIG_DFL)  # a second one ends the process at once
        self._is_terminated = True
        self._end()

    def _restore_signal(self) -> None:
        # Bound methods are equal, not identical.
        if signal.getsignal(signal.SIGTERM) == self._on_sigterm:
            signal.signal(signal.SIGTERM, signal.SIG_DFL)


# Tracebacks


def _show_as_python_does(error: BaseException, code: types.CodeType | None) -> None:
    """Print the traceback through `sys.excepthook`, from the first line of the script on, without our frames."""
    where = error.__traceback__
    while where is not None and where.tb_frame.f_code is not code:
        where = where.tb_next
    error.__traceback__ = _without_our_frames(where, error)
    sys.last_type, sys.last_value, sys.last_traceback = type(error), error, error.__traceback__
    try:
        sys.excepthook(type(error), error, error.__traceback__)
    except Exception:
        sys.__excepthook__(type(error), error, error.__traceback__)


def _without_our_frames(where: TracebackType | None, error: BaseException) -> TracebackType | None:
    if isinstance(error, ThruwayError):  # it may come from these frames
        return where
    frames = []
    while where is not None:
        frames.append(where)
        where = where.tb_next
    kept = None
    for frame in reversed(frames):
        if not frame.tb_frame.f_code.co_filename.startswith(OURS):
            frame.tb_next = kept
            kept = frame
    return kept


def _show_no_more(error: BaseException) -> None:
    """Keep the interpreter from printing the same exception again."""
    shown = sys.excepthook

    def excepthook(kind: type[BaseException], value: BaseException, where: TracebackType | None) -> None:
        if value is not error:
            shown(kind, value, where)

    sys.excepthook = excepthook
