"""The numbers of a run on disk: one SQLite file, one writer, any number of readers at any time.

    layouts(id, channels, crc)                  what the values of a frame are (JSON)
    frames(id, step, layout, width, data, crc)  id counts 1, 2, 3 ...: a missing frame leaves a gap

Write-ahead logging lets readers in while a frame is written; where it cannot work (it needs shared
memory, which network file systems lack) SQLite falls back to its rollback journal, and so do we.
A commit reaches the operating system, which is what survives `kill -9`; the disk itself is synced
when the journal is folded into the file, and at the end.
"""

import sqlite3
from pathlib import Path
from urllib.parse import quote

from thruway.errors import RunError

__all__ = ["BROKEN", "SCHEMA", "SERIES", "check_format", "connect", "use_journal"]

SERIES = "series.db"
FORMAT = 1
APPLICATION = 0x54485257  # "THRW": tells this file from any other SQLite file
PATIENCE = 5.0  # seconds to wait for a reader of a rollback journal

# What reading a damaged file may raise: SQLite also repeats damaged names in its messages.
BROKEN = (sqlite3.Error, UnicodeDecodeError)

SCHEMA = f"""
CREATE TABLE layouts(id INTEGER PRIMARY KEY, channels TEXT NOT NULL, crc INTEGER NOT NULL);
CREATE TABLE frames(id INTEGER PRIMARY KEY, step INTEGER NOT NULL, layout INTEGER NOT NULL,
                    width INTEGER NOT NULL, data BLOB NOT NULL, crc INTEGER NOT NULL);
PRAGMA application_id = {APPLICATION};
PRAGMA user_version = {FORMAT};
"""


def connect(path: Path, mode: str) -> sqlite3.Connection:
    """A connection without implicit transactions; `mode` is SQLite's: ro, rw or rwc."""
    return sqlite3.connect(
        f"file:{quote(str(path.absolute()))}?mode={mode}", uri=True, isolation_level=None, timeout=PATIENCE
    )


def use_journal(connection: sqlite3.Connection) -> str:
    """Choose the journal; returns the one that this file system allows."""
    journal: str = connection.execute("PRAGMA journal_mode = WAL").fetchone()[0]
    # In WAL a commit that was not synced may be lost with the power, never torn; a rollback journal needs the sync.
    connection.execute(f"PRAGMA synchronous = {'NORMAL' if journal == 'wal' else 'FULL'}")
    return journal


def check_format(connection: sqlite3.Connection, path: Path) -> None:
    """Raises RunError if the file is not a series, or one from the future."""
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
