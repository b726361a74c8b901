"""Opening of a run folder for writing, under a lease that ensures a single writer and detects dead writers.

The lease file is created with O_EXCL, so only one process can create it. No lock calls are needed, which network file
systems do not support reliably. The modification time of the file is the heartbeat.
"""

import hashlib
import json
import os
import platform
import secrets
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from typing import Any

from thruway.errors import RunError
from thruway.runs.checkpoints import CHECKPOINTS, PREVIOUS
from thruway.runs.files import TEMPORARY, inside
from thruway.runs.record import RECORD
from thruway.runs.series_file import SERIES
from thruway.runs.series_writer import SeriesWriter

__all__ = ["Lease", "checked_path", "is_held", "open_for_writing", "refuse_existing_run"]

FILE = "writer.lease"
HEARTBEAT_TIMEOUT = 300.0  # seconds without a heartbeat after which a writer on another machine is considered dead
CREATION_TIMEOUT = 10.0  # seconds during which a new lease file may still be empty


class Lease:
    """The exclusive right of this process to write to a run folder, until `release`."""

    def __init__(self, folder: Path, contents: bytes) -> None:
        self._path = inside(folder, FILE)
        self._contents = contents

    @classmethod
    def acquire(cls, folder: Path) -> "Lease":
        """Acquire the lease of `folder`; a lease whose owner has died is taken over.

        Raises:
            RunError: if another process, or this one, is writing to the folder.
        """
        path = inside(folder, FILE)
        contents = _owner_record(folder)
        for _ in range(5):  # repeated if another process acquires the lease at the same time
            try:
                handle = os.open(path, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o644)
            except FileExistsError:
                with suppress(FileNotFoundError):
                    found = path.read_bytes()
                    if not _is_stale(folder, path, found):
                        break
                    _remove_stale(path, found)
                continue
            except OSError as error:
                raise RunError(
                    f"{folder} cannot be written: {error.strerror or error}. Choose another folder."
                ) from error
            try:
                with os.fdopen(handle, "wb") as file:
                    file.write(contents)
            except OSError as error:
                path.unlink()
                raise RunError(f"{path} cannot be written: {error.strerror or error}. Free some space.") from error
            return cls(folder, contents)
        raise RunError(
            f"{folder} is being written by {_describe_owner(path)}. Wait for it, stop it, or choose another folder. "
            f"If you are sure that it is no longer running, delete {path}."
        )

    def heartbeat(self) -> None:
        """Renew the lease.

        Raises:
            RunError: if another process has taken over the lease; continuing would mix the values of two runs.
            OSError: if the folder is not accessible.
        """
        try:
            is_ours = self._path.read_bytes() == self._contents
        except FileNotFoundError:
            is_ours = False
        if not is_ours:
            raise RunError(
                f"{self._path.parent} was taken over by {_describe_owner(self._path)} while this process was inactive. "
                "Stop one of the two. Values that this process has not flushed are not written."
            )
        os.utime(self._path)

    def release(self) -> None:
        """Release the lease. Does nothing if another process has taken it over."""
        with suppress(OSError):
            if self._path.read_bytes() == self._contents:
                self._path.unlink()


def is_held(folder: Path) -> bool:
    """Return True if a running process holds the lease of `folder`."""
    path = folder / FILE
    try:
        return not _is_stale(folder, path, path.read_bytes())
    except OSError:
        return False


def checked_path(folder: Path) -> Path:
    """Return `folder` as a Path. Raises RunError if it contains a NUL character."""
    if "\0" in str(folder):
        raise RunError(f"the folder {str(folder)!r} contains a NUL character. Choose another name.")
    return Path(folder)


def refuse_existing_run(folder: Path) -> None:
    """Raise RunError if `folder` already contains a run."""
    if inside(folder, RECORD).exists():
        raise RunError(f"{folder} already contains a run. Pass --resume to continue it, or choose another folder.")


@contextmanager
def open_for_writing(folder: Path) -> Iterator[tuple[Lease, SeriesWriter]]:
    """Acquire the lease of `folder` and open its series. Both are released if the block raises an exception."""
    with ExitStack() as stack:
        lease = Lease.acquire(folder)
        stack.callback(lease.release)
        _remove_temporary_files(folder)
        series = SeriesWriter(inside(folder, SERIES))
        stack.callback(series.close)
        yield lease, series
        stack.pop_all()


def _remove_temporary_files(folder: Path) -> None:
    """Remove incomplete files left by a killed process."""
    for parts in ((), (CHECKPOINTS,), (CHECKPOINTS, PREVIOUS)):
        for path in inside(folder, *parts).glob(f"{TEMPORARY}*"):
            path.unlink()


def _owner_record(folder: Path) -> bytes:
    owner = {
        "pid": os.getpid(),
        "started": _start_time(os.getpid()),  # pids are reused, but not with the same start time
        "boot": _first_line("/proc/sys/kernel/random/boot_id"),
        "host": _host(),
        "folder": folder.stat().st_ino,  # inode; differs in a copy of the folder
        "token": secrets.token_hex(8),
    }
    return json.dumps(owner).encode()


def _is_stale(folder: Path, path: Path, contents: bytes) -> bool:
    """Return True if the owner has died (on this machine), or has sent no heartbeat for too long (on another one)."""
    age = time.time() - path.stat().st_mtime
    owner = _parsed(contents)
    if not isinstance(owner.get("pid"), int):
        return age > CREATION_TIMEOUT
    if owner.get("folder") != folder.stat().st_ino:
        return True
    if owner.get("host") != _host():
        return age > HEARTBEAT_TIMEOUT
    if owner.get("boot") != _first_line("/proc/sys/kernel/random/boot_id"):
        return True
    if owner.get("started") is None:  # the system does not report start times
        return age > HEARTBEAT_TIMEOUT
    return bool(_start_time(owner["pid"]) != owner["started"])


def _remove_stale(path: Path, stale: bytes) -> None:
    """Remove the lease file if its contents are still `stale`.

    Another process may have replaced the file since it was read. The file is therefore renamed, which is atomic, then
    checked, and renamed back if it is another lease.
    """
    aside = path.with_name(f"{TEMPORARY}lease-{secrets.token_hex(6)}")
    os.rename(path, aside)
    if aside.read_bytes() != stale:
        with suppress(FileExistsError):
            os.link(aside, path)
    aside.unlink()


def _start_time(pid: int) -> str | None:
    """Return the start time of process `pid` in a system-specific unit, or None if the process is not running."""
    try:
        stat = Path(f"/proc/{pid}/stat").read_bytes()
    except (FileNotFoundError, ProcessLookupError):
        if Path("/proc/self/stat").exists() or os.name != "posix":
            return None
    else:
        # The command, in parentheses, may itself contain spaces and parentheses.
        fields = stat[stat.rindex(b")") + 2 :].split()
        return None if fields[0] in (b"Z", b"X") else fields[19].decode()
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return None
    except PermissionError:
        pass
    return "unknown"


def _host() -> str:
    """Return a digest that distinguishes machines and containers without naming them."""
    try:
        namespace = os.readlink("/proc/self/ns/pid")
    except OSError:
        namespace = ""
    name = "\n".join((platform.node(), _first_line("/etc/machine-id"), namespace))
    return hashlib.blake2b(name.encode(), digest_size=8).hexdigest()


def _first_line(path: str) -> str:
    try:
        return Path(path).read_text().strip()
    except OSError:
        return ""


def _parsed(contents: bytes) -> dict[str, Any]:
    try:
        owner = json.loads(contents)
    except (ValueError, RecursionError):
        return {}
    return owner if isinstance(owner, dict) else {}


def _describe_owner(path: Path) -> str:
    try:
        owner = _parsed(path.read_bytes())
    except OSError:
        return "no process any more (its lease file is gone)"
    if owner.get("pid") == os.getpid() and owner.get("host") == _host():
        return "this same process"
    where = "on this machine" if owner.get("host") == _host() else "on another machine or in another container"
    return f"process {owner.get('pid', '(starting)')} {where}"
