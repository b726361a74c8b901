"""Shared helpers for tests of run folders: a new run, and a child process that can be killed."""

import os
import signal
import traceback
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from thruway.runs import Run


def make_run(folder: Path, **overrides: object) -> Run:
    arguments = {"name": "r", "command": ["demo"], "seeds": {"run": 0}, "device": "cpu"} | overrides
    return Run.create(folder, {"depth": 50}, **arguments)


class Child:
    """A forked process that sends lines through a pipe."""

    def __init__(self, work: Callable[[Callable[[object], None]], None]) -> None:
        self._pipe, write = os.pipe()
        with warnings.catch_warnings():
            # Python 3.12 warns about forks while torch has idle threads; the child does not use them.
            warnings.simplefilter("ignore", DeprecationWarning)
            self.pid = os.fork()
        if self.pid == 0:
            code = 1
            try:
                work(lambda line: (os.write(write, f"{line}\n".encode()), None)[1])
                code = 0
            except BaseException:
                traceback.print_exc()
            finally:
                os._exit(code)
        os.close(write)

    def kill(self) -> None:
        os.kill(self.pid, signal.SIGKILL)

    def wait(self) -> int:
        """Return the exit status; a negative value is the signal that ended the process."""
        return os.waitstatus_to_exitcode(os.waitpid(self.pid, 0)[1])

    def lines(self) -> Iterator[str]:
        """Yield the lines it sends, until it ends."""
        with os.fdopen(self._pipe) as pipe:
            yield from (line.rstrip("\n") for line in pipe if line.endswith("\n"))


def kill_at(count: int) -> None:
    """Kill the process before the call number `count` that makes a change durable."""
    calls = iter(range(1_000_000))

    def guarded(real: Any) -> Any:
        def call(*arguments: Any, **options: Any) -> Any:
            if next(calls) == count:
                os.kill(os.getpid(), 9)
            return real(*arguments, **options)

        return call

    for name in ("fsync", "replace", "link", "open"):
        setattr(os, name, guarded(getattr(os, name)))
