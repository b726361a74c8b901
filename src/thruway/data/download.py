"""Downloads that are verified before anyone sees them.

Bytes go to `<name>.part`; only when their SHA-256 is right is the file renamed to its name. A cut
connection leaves the .part, and the next mirror, or the next call, goes on from its end.
"""

import contextlib
import hashlib
import http.client
import os
import sys
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator, Sequence
from io import BufferedRandom, BufferedReader
from pathlib import Path

from thruway.data.entry import Remote
from thruway.errors import DatasetError

__all__ = ["Progress", "fetch"]

Progress = Callable[[str, int, int], None]  # (file name, bytes so far, bytes in all)

_CHUNK = 1 << 16
_ROUNDS = 2  # every mirror twice: a part that one mirror spoilt is started afresh in the second round


class _MirrorError(Exception):
    """Why one mirror did not give the file."""


def fetch(
    mirrors: Sequence[str],
    remote: Remote,
    root: Path,
    *,
    timeout: float = 20.0,
    progress: Progress | None = None,
) -> Path:
    """Download one file from the first mirror that gives it whole and right.

    Args:
        mirrors: addresses of folders that hold the file, best first.
        remote: where the file goes below `root`, its size in bytes and its SHA-256.
        root: the data root.
        timeout: seconds of silence after which the next mirror is tried.
        progress: called with (name, bytes so far, bytes in all) as they arrive.
    Returns:
        The path of the verified file. One that is there already and right is not downloaded again.
    Raises:
        DatasetError: with what each mirror answered, if none gave the file; or if it cannot be written.
    """
    target = root / remote.path
    part = target.with_name(target.name + ".part")
    try:
        if _is_right(target, remote):
            return target
        target.parent.mkdir(parents=True, exist_ok=True)
        with _alone(part) as file:
            # Another process may have finished it while we waited for our turn.
            if _is_right(target, remote):
                part.unlink(missing_ok=True)
                return target
            _fill(file, mirrors, remote, target, timeout, progress)
            _publish(file, part, target)
    except OSError as error:
        raise DatasetError(f"cannot write {part}: {error}. Choose another data root, or make room.") from error
    return target


def _sha256(file: BufferedReader | BufferedRandom) -> str:
    file.seek(0)
    return hashlib.file_digest(file, "sha256").hexdigest()


def _is_right(path: Path, remote: Remote) -> bool:
    """Whether the file is there, whole and unchanged."""
    if not os.path.isfile(path):
        return False
    with open(path, "rb") as file:
        return _sha256(file) == remote.sha256


def _fill(
    file: BufferedRandom,
    mirrors: Sequence[str],
    remote: Remote,
    target: Path,
    timeout: float,
    progress: Progress | None,
) -> None:
    """Bring `file` to the wanted size and checksum, from whichever mirrors it takes."""
    answers: dict[str, str] = {}
    for mirror in [*mirrors] * _ROUNDS:
        url = mirror + target.name
        try:
            _continue(file, url, remote.size, timeout, progress)
            if (got := _sha256(file)) == remote.sha256:
                return
            file.truncate(0)
            raise _MirrorError(f"SHA-256 is {got}, should be {remote.sha256}")
        except _MirrorError as reason:
            answers.setdefault(url, str(reason))
    listed = "".join(f"\n  {url}: {answer}" for url, answer in answers.items())
    raise DatasetError(
        f"could not download {target.name}:{listed}\n"
        f"What arrived is kept, and the next try goes on from there. Without a connection: put the file at {target}."
    )


def _continue(file: BufferedRandom, url: str, size: int, timeout: float, progress: Progress | None) -> None:
    """Append what `file` lacks from one address; `_MirrorError` says why it stopped early."""
    have = file.seek(0, os.SEEK_END)
    if have > size:
        file.truncate(have := 0)
    if have == size:
        return
    request = urllib.request.Request(url, headers={"User-Agent": "thruway"})
    if have:
        request.add_header("Range", f"bytes={have}-")
    with _reasons():
        response = urllib.request.urlopen(request, timeout=timeout)
    with response:  # outside _reasons: a full disk is no fault of the mirror
        _refuse_other_content(response, have, size)
        if response.status == 200:
            file.truncate(have := 0)  # the mirror cannot resume
        while have < size:
            with _reasons():
                chunk = response.read1(min(_CHUNK, size - have))
            if not chunk:
                raise _MirrorError(f"stopped after {have} of {size} bytes")
            file.write(chunk)
            have += len(chunk)
            if progress is not None:
                progress(os.path.basename(url), have, size)


def _refuse_other_content(response: http.client.HTTPResponse, have: int, size: int) -> None:
    """Look at the headers before a byte that is already here is given up for what follows them."""
    kind = response.headers.get_content_type()
    if kind == "text/html":
        raise _MirrorError("answered with a web page instead of the file")
    where = response.headers.get("Content-Range", "")
    if response.status == 206 and where != f"bytes {have}-{size - 1}/{size}":
        raise _MirrorError(f"answered with range {where!r}, asked for {have}-{size - 1} of {size}")
    if response.status not in (200, 206):
        raise _MirrorError(f"answered with status {response.status}")
    length = response.headers.get("Content-Length")
    if response.status == 200 and length is not None and length != str(size):
        raise _MirrorError(f"offers {length} bytes, the file has {size}")


@contextlib.contextmanager
def _reasons() -> Iterator[None]:
    """Turn whatever the network raises into a reason to try the next mirror."""
    try:
        yield
    except urllib.error.HTTPError as error:
        error.close()
        raise _MirrorError(f"answered with status {error.code} {error.reason}") from error
    except (OSError, http.client.HTTPException, ValueError) as error:
        raise _MirrorError(str(error) or type(error).__name__) from error


@contextlib.contextmanager
def _alone(part: Path) -> Iterator[BufferedRandom]:
    """The .part file, opened for appending, while no other process of this machine has it."""
    with open(part, "a+b") as file:
        if sys.platform != "win32":
            import fcntl

            # Some file systems have no locks; two downloads at once then only waste effort.
            with contextlib.suppress(OSError):
                fcntl.flock(file, fcntl.LOCK_EX)
        yield file


def _publish(file: BufferedRandom, part: Path, target: Path) -> None:
    """Give a verified file its name, in one step and only after it is on the disk."""
    file.flush()
    os.fsync(file.fileno())
    if sys.platform == "win32":
        file.close()  # an open file cannot be renamed there
    os.replace(part, target)
