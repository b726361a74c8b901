"""One writer per run: a lease file that names its owner, and how to tell that the owner is gone.

The file is made with O_EXCL, so two processes cannot both make it; no lock call is needed, which is
what network file systems fail at. Its modification time is the heartbeat.
"""

import hashlib
import json
import os
import platform
import secrets
import time
from contextlib import suppress
from pathlib import Path
from typing import Any

from thruway.errors import RunError
from thruway.runs.files import TEMPORARY, inside

__all__ = ["Lease", "is_held"]

FILE = "writer.lease"
SILENCE = 300.0  # seconds without a heartbeat after which a writer on another machine counts as gone
BIRTH = 10.0  # seconds in which a lease file may still be empty


class Lease:
    """The right to write a run folder, held by this process until `release`."""

    def __init__(self, folder: Path, contents: bytes) -> None:
        self._path = inside(folder, FILE)
        self._contents = contents

    @classmethod
    def acquire(cls, folder: Path) -> "Lease":
        """Take the lease of `folder`, also from an owner that is gone.

        Raises:
            RunError: if another process, or this one, is writing there.
        """
        path = inside(folder, FILE)
        mine = _owner(folder)
        for _ in range(5):  # each round lost to another process that did the same at the same time
            try:
                handle = os.open(path, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o644)
            except FileExistsError:
                with suppress(FileNotFoundError):
                    theirs = path.read_bytes()
                    if not _is_stale(folder, path, theirs):
                        break
                    _discard(path, theirs)
                continue
            except OSError as error:
                raise RunError(
                    f"{folder} cannot be written: {error.strerror or error}. Choose another folder."
                ) from error
            try:
                with os.fdopen(handle, "wb") as file:
                    file.write(mine)
            except OSError as error:
                path.unlink()
                raise RunError(f"{path} cannot be written: {error.strerror or error}. Make room.") from error
            return cls(folder, mine)
        raise RunError(
            f"{folder} is being written by {_described(path)}. Wait for it, stop it, or choose another folder; "
            f"if you are sure that it is gone, delete {path}."
        )

    def heartbeat(self) -> None:
        """Say that this process still writes.

        Raises:
            RunError: if another process has taken the lease; writing on would mix two trainings.
            OSError: if the folder cannot be reached.
        """
        try:
            held = self._path.read_bytes() == self._contents
        except FileNotFoundError:
            held = False
        if not held:
            raise RunError(
                f"{self._path.parent} was taken over by {_described(self._path)} while this process was silent. "
                "Stop one of the two; what this one has not flushed is not written."
            )
        os.utime(self._path)

    def release(self) -> None:
        """Give the lease back; does nothing if it is no longer ours."""
        with suppress(OSError):
            if self._path.read_bytes() == self._contents:
                self._path.unlink()


def is_held(folder: Path) -> bool:
    """Whether a process that is still alive writes in `folder`."""
    path = folder / FILE
    try:
        return not _is_stale(folder, path, path.read_bytes())
    except OSError:
        return False


def _owner(folder: Path) -> bytes:
    owner = {
        "pid": os.getpid(),
        "started": _started(os.getpid()),  # a pid is used again, a pid with its start time is not
        "boot": _first_line("/proc/sys/kernel/random/boot_id"),
        "host": _host(),
        "folder": folder.stat().st_ino,  # a copy of the folder is another folder
        "token": secrets.token_hex(8),
    }
    return json.dumps(owner).encode()


def _is_stale(folder: Path, path: Path, contents: bytes) -> bool:
    """Whether the owner is certainly gone (this machine), or silent for too long (another one)."""
    silence = time.time() - path.stat().st_mtime
    owner = _parsed(contents)
    if not isinstance(owner.get("pid"), int):
        return silence > BIRTH
    if owner.get("folder") != folder.stat().st_ino:
        return True
    if owner.get("host") != _host():
        return silence > SILENCE
    if owner.get("boot") != _first_line("/proc/sys/kernel/random/boot_id"):
        return True
    if owner.get("started") is None:  # a system that does not tell
        return silence > SILENCE
    return bool(_started(owner["pid"]) != owner["started"])


def _discard(path: Path, theirs: bytes) -> None:
    """Remove the stale lease `theirs`, and only that one.

    Another process may have replaced it by its own since we read it. A rename is atomic, so whoever
    renames looks at what it got, and puts a live lease back.
    """
    aside = path.with_name(f"{TEMPORARY}lease-{secrets.token_hex(6)}")
    os.rename(path, aside)
    if aside.read_bytes() != theirs:
        with suppress(FileExistsError):
            os.link(aside, path)
    aside.unlink()


def _started(pid: int) -> str | None:
    """When the living process `pid` started, in its system's own unit; None if there is none."""
    try:
        stat = Path(f"/proc/{pid}/stat").read_bytes()
    except (FileNotFoundError, ProcessLookupError):
        if Path("/proc/self/stat").exists() or os.name != "posix":
            return None
    else:
        # The command, in brackets, may itself hold spaces and brackets.
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
    """A digest that tells machines and containers apart without naming them."""
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


def _described(path: Path) -> str:
    try:
        owner = _parsed(path.read_bytes())
    except OSError:
        return "nobody now (its lease file is gone)"
    if owner.get("pid") == os.getpid() and owner.get("host") == _host():
        return "this same process"
    where = "on this machine" if owner.get("host") == _host() else "on another machine or in another container"
    return f"process {owner.get('pid', '(starting)')} {where}"
