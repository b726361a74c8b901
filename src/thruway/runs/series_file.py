"""The file format of a series, the logged values of a run: an SQLite file with one writer and any number of readers.

    layouts(id, channels, crc)                  the axes of the values of a frame (JSON)
    frames(id, step, layout, width, data, crc)  ids are 1, 2, 3 ..., so a missing frame leaves a gap

With write-ahead logging, readers are not blocked while a frame is written. It needs shared memory, which network file
systems lack; there SQLite uses its rollback journal instead. A commit hands the data to the operating system, which is
enough to survive `kill -9`. The disk is synced when the journal is merged into the file, and at the end.
"""

import sqlite3
from pathlib import Path
from urllib.parse import quote

from thruway.errors import RunError

__all__ = ["READ_ERRORS", "SCHEMA", "SERIES", "check_format", "connect", "use_journal"]

SERIES = "series.db"
FORMAT = 1
APPLICATION = 0x54485257  # "THRW": distinguishes the file from other SQLite files
BUSY_TIMEOUT = 5.0  # seconds to wait for a reader, with a rollback journal

# Exceptions raised for a damaged file. SQLite repeats damaged names in its messages, which may not be valid UTF-8.
READ_ERRORS = (sqlite3.Error, UnicodeDecodeError)

SCHEMA = f"""
CREATE TABLE layouts(id INTEGER PRIMARY KEY, channels TEXT NOT NULL, crc INTEGER NOT NULL);
CREATE TABLE frames(id INTEGER PRIMARY KEY, step INTEGER NOT NULL, layout INTEGER NOT NULL,
                    width INTEGER NOT NULL, data BLOB NOT NULL, crc INTEGER NOT NULL);
PRAGMA application_id = {APPLICATION};
PRAGMA user_version = {FORMAT};
"""


def connect(path: Path, mode: str) -> sqlite3.Connection:
    """Open a connection without implicit transactions; `mode` is that of SQLite: ro, rw or rwc."""
    return sqlite3.connect(
        f"file:{quote(str(path.absolute()))}?mode={mode}", uri=True, isolation_level=None, timeout=BUSY_TIMEOUT
    )


def use_journal(connection: sqlite3.Connection) -> str:
    """Enable write-ahead logging if the file system supports it; returns the journal mode in use."""
    journal: str = connection.execute("PRAGMA journal_mode = WAL").fetchone()[0]
    # With WAL, an unsynced commit can be lost in a power failure but not corrupted; a rollback journal needs the sync.
    connection.execute(f"PRAGMA synchronous = {'NORMAL' if journal == 'wal' else 'FULL'}")
    return journal


def check_format(connection: sqlite3.Connection, path: Path) -> None:
    """Raise RunError if the file is not a series, or has a later format."""
    application = connection.execute("PRAGMA application_id").fetchone()[0]
    version = connection.execute("PRAGMA user_version").fetchone()[0]
    if application != APPLICATION:
        raise RunError(
            f"{path} is an SQLite file, but not a Thruway series, or it is damaged. Choose another run folder."
        )
    if version > FORMAT:
        raise RunError(
            f"{path} has format {version}, and this Thruway reads up to {FORMAT}. "
            "Install the newer Thruway that wrote it."
        )
