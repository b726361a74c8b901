"""Download and unpacking of a data set into the folder layout that the readers expect."""

import os
import shutil
import tarfile
import zipfile
import zlib
from collections.abc import Collection, Iterator
from pathlib import Path
from typing import IO

from thruway.data.data_roots import download_root
from thruway.data.download import Progress, fetch
from thruway.data.entry import Entry
from thruway.data.files import damaged_file_error
from thruway.errors import DatasetError

__all__ = ["obtain", "unpack"]


def obtain(entry: Entry, root: str | os.PathLike[str] | None = None, progress: Progress | None = None) -> Path:
    """Download both parts of a data set and unpack them below the data root.

    Args:
        entry: an entry of `DATASETS`.
        root: data root. Default: $THRUWAY_DATA if set, otherwise ~/.cache/thruway/data.
        progress: called as progress(file name, bytes so far, total bytes).
    Returns:
        The folder that contains the files.
    Raises:
        DatasetError: if there is nothing to download, no mirror delivers the files, or they cannot be written.
    """
    if not entry.remotes:
        raise DatasetError(f"{entry.title} cannot be downloaded. Omit download=True.")
    place = download_root(root)
    folder = place / entry.folders[0]
    wanted = {*entry.train.files, *entry.test.files}
    for remote in entry.remotes:
        path = fetch(entry.mirrors, remote, place, progress=progress)
        if path.name.removesuffix(".gz") not in wanted:
            unpack(path, wanted, folder)
    return folder


def unpack(archive: Path, wanted: Collection[str], folder: Path) -> None:
    """Extract the wanted files, plain or with suffix .gz, from a .zip or .tar.gz archive.

    Only the base name of a member is used, so that no member can be written outside `folder`. Links and other members
    are not extracted.

    Raises:
        DatasetError: if the archive is damaged, a file is missing from it, or it cannot be unpacked.
    """
    missing = set(wanted)
    try:
        folder.mkdir(parents=True, exist_ok=True)
        for name, content in _members(archive):
            if name.removesuffix(".gz") in missing:
                missing.discard(name.removesuffix(".gz"))
                part = folder / f"{name}.part"
                with open(part, "wb") as file:
                    shutil.copyfileobj(content, file, 1 << 20)
                os.replace(part, folder / name)
    except (tarfile.TarError, zipfile.BadZipFile, EOFError, zlib.error, RuntimeError) as error:
        raise damaged_file_error(archive, f"cannot be unpacked ({error})") from error
    except OSError as error:
        raise DatasetError(
            f"cannot unpack {archive} into {folder}: {error}. Free some space, or choose another data root."
        ) from error
    if missing:
        raise damaged_file_error(archive, f"is missing {', '.join(sorted(missing))}")


def _members(archive: Path) -> Iterator[tuple[str, IO[bytes]]]:
    """Yield the base name and the content of each regular file."""
    if archive.suffix == ".zip":
        with zipfile.ZipFile(archive) as zipped:
            for info in zipped.infolist():
                if not info.is_dir():
                    with zipped.open(info) as content:
                        yield os.path.basename(info.filename), content
        return
    with tarfile.open(archive, "r|*") as tarred:
        for member in tarred:
            if member.isreg() and (extracted := tarred.extractfile(member)) is not None:
                yield os.path.basename(member.name), extracted
