"""Resumable, verified downloads.

Data is written to `<name>.part`, which is renamed once its SHA-256 is verified. If the connection breaks, the .part
file is kept and the next mirror, or the next call, resumes from its end.
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

Progress = Callable[[str, int, int], None]  # (file name, bytes so far, total bytes)

_CHUNK = 1 << 16
_ROUNDS = 2  # every mirror is tried twice: a .part file corrupted by one mirror is restarted in the second round


class _MirrorError(Exception):
    """The reason why one mirror did not deliver the file."""


def fetch(
    mirrors: Sequence[str],
    remote: Remote,
    root: Path,
    *,
    timeout: float = 20.0,
    progress: Progress | None = None,
) -> Path:
    """Download one file from the first mirror that delivers it complete and correct.

    Args:
        mirrors: URLs of folders that contain the file, in order of preference.
        remote: path of the file below `root`, its size in bytes and its SHA-256.
        root: data root.
        timeout: seconds without data after which the next mirror is tried.
        progress: called as progress(name, bytes so far, total bytes) while data arrives.
    Returns:
        The path of the verified file. An existing correct file is not downloaded again.
    Raises:
        DatasetError: if no mirror delivered the file, with the reason for each; or if the file cannot be written.
    """
    target = root / remote.path
    part = target.with_name(target.name + ".part")
    try:
        if _is_right(target, remote):
            return target
        target.parent.mkdir(parents=True, exist_ok=True)
        with _open_exclusively(part) as file:
            # Another process may have completed the download while this one waited for the lock.
            if _is_right(target, remote):
                part.unlink(missing_ok=True)
                return target
            _fill(file, mirrors, remote, target, timeout, progress)
            _publish(file, part, target)
    except OSError as error:
        raise DatasetError(f"cannot write {part}: {error}. Choose another data root, or free some space.") from error
    return target


def _sha256(file: BufferedReader | BufferedRandom) -> str:
    file.seek(0)
    return hashlib.file_digest(file, "sha256").hexdigest()


def _is_right(path: Path, remote: Remote) -> bool:
    """Return True if the file exists and has the expected SHA-256."""
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
    """Complete `file` to the expected size and checksum, trying each mirror in turn."""
    answers: dict[str, str] = {}
    for mirror in [*mirrors] * _ROUNDS:
        url = mirror + target.name
        try:
            _resume(file, url, remote.size, timeout, progress)
            if (got := _sha256(file)) == remote.sha256:
                return
            file.truncate(0)
            raise _MirrorError(f"SHA-256 is {got}, expected {remote.sha256}")
        except _MirrorError as reason:
            answers.setdefault(url, str(reason))
    listed = "".join(f"\n  {url}: {answer}" for url, answer in answers.items())
    raise DatasetError(
        f"could not download {target.name}:{listed}\n"
        f"The data received so far is kept, and the next attempt resumes from it. Without a connection, copy the file "
        f"to {target}."
    )


def _resume(file: BufferedRandom, url: str, size: int, timeout: float, progress: Progress | None) -> None:
    """Append the missing bytes of `file` from one URL. Raises _MirrorError if the mirror fails."""
    have = file.seek(0, os.SEEK_END)
    if have > size:
        file.truncate(have := 0)
    if have == size:
        return
    request = urllib.request.Request(url, headers={"User-Agent": "thruway"})
    if have:
        request.add_header("Range", f"bytes={have}-")
    with _mirror_errors():
        response = urllib.request.urlopen(request, timeout=timeout)
    with response:  # outside _mirror_errors: a full disk is not an error of the mirror
        _check_headers(response, have, size)
        if response.status == 200:
            file.truncate(have := 0)  # the mirror does not support ranges
        while have < size:
            with _mirror_errors():
                chunk = response.read1(min(_CHUNK, size - have))
            if not chunk:
                raise _MirrorError(f"stopped after {have} of {size} bytes")
            file.write(chunk)
            have += len(chunk)
            if progress is not None:
                progress(os.path.basename(url), have, size)


def _check_headers(response: http.client.HTTPResponse, have: int, size: int) -> None:
    """Check the response headers before any bytes already downloaded are discarded."""
    kind = response.headers.get_content_type()
    if kind == "text/html":
        raise _MirrorError("answered with a web page instead of the file")
    where = response.headers.get("Content-Range", "")
    if response.status == 206 and where != f"bytes {have}-{size - 1}/{size}":
        raise _MirrorError(f"answered with range {where!r}, expected {have}-{size - 1} of {size}")
    if response.status not in (200, 206):
        raise _MirrorError(f"answered with status {response.status}")
    length = response.headers.get("Content-Length")
    if response.status == 200 and length is not None and length != str(size):
        raise _MirrorError(f"offers {length} bytes, expected {size}")


@contextlib.contextmanager
def _mirror_errors() -> Iterator[None]:
    """Convert network exceptions into _MirrorError, so that the next mirror is tried."""
    try:
        yield
    except urllib.error.HTTPError as error:
        error.close()
        raise _MirrorError(f"answered with status {error.code} {error.reason}") from error
    except (OSError, http.client.HTTPException, ValueError) as error:
        raise _MirrorError(str(error) or type(error).__name__) from error


@contextlib.contextmanager
def _open_exclusively(part: Path) -> Iterator[BufferedRandom]:
    """Open the .part file for appending, locked against other processes on this machine."""
    with open(part, "a+b") as file:
        if sys.platform != "win32":
            import fcntl

            # Some file systems do not support locks; two concurrent downloads then only waste time.
            with contextlib.suppress(OSError):
                fcntl.flock(file, fcntl.LOCK_EX)
        yield file


def _publish(file: BufferedRandom, part: Path, target: Path) -> None:
    """Sync the verified file to disk and rename it atomically to its final name."""
    file.flush()
    os.fsync(file.fileno())
    if sys.platform == "win32":
        file.close()  # Windows cannot rename an open file
    os.replace(part, target)
