"""Folder of the traces of a program, and their merging if several processes trained together."""

import re
import tempfile
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from thruway.errors import ConfigError, ThruwayError
from thruway.launch.messages import say

if TYPE_CHECKING:
    from thruway.launch.recording import Recording
    from thruway.watching import Trace

__all__ = ["Destination", "Watched", "file_stems"]

FOLDER = "thruway-watch"
MOST_SECONDS = 10.0  # to wait for the traces of the other processes


@dataclass(frozen=True)
class Watched:
    """A trace that was recorded of a program.

    Attributes:
        trace: the trace; for several processes, that of the whole batch.
        path: file of the trace.
        is_foreign: True if the optimizer updates no parameter of the module that the program calls.
    """

    trace: "Trace"
    path: Path
    is_foreign: bool = False


@dataclass
class Destination:
    """The folder to which the traces of one process are saved.

    Processes started by torchrun save to the same folder, one file each, and the first one merges them. It makes the
    folder when it starts, and leaves a file in it by which the others find it.

    Args:
        folder: the folder; None for the first free one of thruway-watch, thruway-watch-2 ... in the current folder.
        environment: the environment variables.
    """

    folder: Path | None
    environment: Mapping[str, str]

    def __post_init__(self) -> None:
        self.rank = int(self.environment.get("RANK", "0"))
        self.processes = int(self.environment.get("WORLD_SIZE", "1"))
        self._base = (Path.cwd() / FOLDER) if self.folder is None else self.folder.absolute()
        self._made: Path | None = None
        job = [self.environment.get(name, "") for name in _JOB]
        self._marker = ".job-" + re.sub(r"[^A-Za-z0-9]+", "-", "-".join(job)).strip("-")

    def check(self) -> None:
        """Check that an explicit folder can be used, and reserve it if other processes have to find it.

        Raises:
            ConfigError: if it is a file, contains files already, or cannot be written.
        """
        there = self._base
        if self.folder is not None and self.rank == 0 and there.exists():
            if not there.is_dir():
                raise ConfigError(f"--out {self.folder} is a file. Give a folder that does not exist yet.")
            if any(there.iterdir()):
                raise ConfigError(f"--out {self.folder} contains files already. Give another folder, or an empty one.")
        while not there.exists():
            there = there.parent
        if not there.is_dir():
            raise ConfigError(f"{there} is a file, so --out {self.folder} cannot be a folder. Give another one.")
        try:
            tempfile.TemporaryDirectory(dir=there, prefix=".thruway-").cleanup()
        except OSError as error:
            raise ConfigError(
                f"cannot write to {there}: {error.strerror or error}. Give a folder with --out that can be written to."
            ) from error
        if self.processes > 1 and self.rank == 0:
            (self._make() / self._marker).touch()

    def save(self, recordings: Sequence["Recording"]) -> list[Watched]:
        """Save the trace of every recording, and return those to be shown: none except in the first process.

        Raises:
            ThruwayError: if a file cannot be written.
        """
        kept = [recording for recording in recordings if recording.trace.steps]
        if not kept:
            self._remove_empty()
            return []
        folder = self._make()
        names = file_stems([recording.title for recording in kept])
        if self.processes == 1:
            return [
                Watched(each.trace, each.trace.save(folder / f"{name}.npz"), each.is_foreign)
                for name, each in zip(names, kept, strict=True)
            ]
        for name, each in zip(names, kept, strict=True):
            each.trace.save(folder / f"{name}.rank{self.rank}.npz")
        if self.rank > 0:
            return []
        merged = [self._merged(folder, name, each) for name, each in zip(names, kept, strict=True)]
        (folder / self._marker).unlink(missing_ok=True)
        return merged

    def _merged(self, folder: Path, name: str, recording: "Recording") -> Watched:
        """Wait for the traces of the other processes, and merge them with this one."""
        from thruway.watching import Trace, merged

        paths = [folder / f"{name}.rank{rank}.npz" for rank in range(self.processes)]
        end = time.monotonic() + MOST_SECONDS
        while not all(path.exists() for path in paths) and time.monotonic() < end:
            time.sleep(0.05)
        traces = [recording.trace, *(Trace.load(path) for path in paths[1:] if path.exists())]
        if len(traces) < self.processes:
            say(f"{name}: only {len(traces)} of {self.processes} processes saved a trace within {MOST_SECONDS:g} s")
        try:
            whole = merged(traces)
        except ThruwayError as error:
            say(f"{name}: the traces of the processes were not merged: {error}")
            return Watched(recording.trace, paths[0], recording.is_foreign)
        whole.model = recording.title
        return Watched(whole, whole.save(folder / f"{name}.npz"), recording.is_foreign)

    def _make(self) -> Path:
        """Make the folder at the first call, under a name that is free."""
        if self._made is None:
            self._made = self._find() or self._create()
        return self._made

    def _create(self) -> Path:
        number, path = 1, self._base
        while True:
            try:
                path.mkdir(parents=True, exist_ok=self.folder is not None)
                return path
            except FileExistsError:
                number += 1
                path = self._base.with_name(f"{self._base.name}-{number}")

    def _find(self) -> Path | None:
        """Return the folder that the first process of this job has made."""
        if self.rank == 0:
            return None
        if self.folder is not None:
            return self._create()
        found = [path.parent for path in self._base.parent.glob(f"{FOLDER}*/{self._marker}")]
        return max(found, key=lambda path: path.stat().st_mtime, default=None)

    def _remove_empty(self) -> None:
        if self._made is not None:
            (self._made / self._marker).unlink(missing_ok=True)
            if not any(self._made.iterdir()):
                self._made.rmdir()


_JOB = ("MASTER_ADDR", "MASTER_PORT", "TORCHELASTIC_RUN_ID", "TORCHELASTIC_RESTART_COUNT")


def file_stems(titles: Sequence[str]) -> list[str]:
    """Return a file name for each title, all different.

    >>> file_stems(["Generator (Adam #1)", "Net", "Net"])
    ['generator-adam-1', 'net', 'net-2']
    """
    stems: list[str] = []
    for title in titles:
        stem = re.sub(r"[^a-z0-9]+", "-", title.lower()).strip("-") or "trace"
        name, number = stem, 1
        while name in stems:
            number += 1
            name = f"{stem}-{number}"
        stems.append(name)
    return stems
