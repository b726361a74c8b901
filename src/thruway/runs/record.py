"""run.json: what was asked, by which code, on what machine, and how it went."""

from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from thruway.errors import RunError
from thruway.runs.files import inside, plain_json, read_sealed, safe_name, write_sealed
from thruway.runs.provenance import commit, hardware, versions

__all__ = ["RECORD", "Record", "now", "read_record"]

FORMAT = 1
RECORD = "run.json"
PROBLEMS = 20  # kept; a disk that fails every second must not fill the file


def read_record(folder: Path) -> dict[str, Any]:
    """The fields of run.json. Raises RunError if it is missing, damaged or of a later format."""
    return read_sealed(inside(folder, RECORD), newest=FORMAT)


class Record:
    """The run.json of a run that is being written."""

    def __init__(self, folder: Path, fields: dict[str, Any]) -> None:
        self._path = inside(folder, RECORD)
        self._fields = fields
        self.is_saved = False

    @classmethod
    def new(
        cls,
        folder: Path,
        *,
        name: str,
        config: dict[str, Any],
        command: list[str],
        seeds: dict[str, int],
        device: str,
        extra: dict[str, Any] | None,
    ) -> "Record":
        """A record that starts now, not yet saved. Raises RunError if a value is not plain JSON."""
        asked = {"config": config, "seeds": seeds, "command": command, "device": device, "extra": extra or {}}
        fields = {
            "format": FORMAT,
            "name": safe_name(name, "run"),
            "status": "running",
            "created": now(),
            "ended": None,
            "error": None,
            "problems": [],
            "resumed": 0,
            **{what: plain_json(value, what) for what, value in asked.items()},
            "versions": versions(),
            "git": commit(),
            "hardware": hardware(str(device)),
            "resumptions": [],
        }
        return cls(folder, fields)

    def __getitem__(self, field: str) -> Any:
        return self._fields[field]

    def reopen(self) -> None:
        """The run goes on, perhaps with other code."""
        self._fields |= {"status": "running", "ended": None, "error": None, "resumed": self["resumed"] + 1}
        self._fields["resumptions"].append({"at": now(), "versions": versions(), "git": commit()})
        self.is_saved = False

    def mark(self, status: str) -> None:
        self._fields["status"] = status
        self.is_saved = False

    def end(self, status: str, error: str | None) -> None:
        self._fields |= {"status": status, "ended": now(), "error": error}
        self.is_saved = False

    def note(self, problem: str) -> None:
        """Keep a sentence about something that went wrong."""
        self._fields["problems"] = [*self["problems"], problem][-PROBLEMS:]
        self.is_saved = False

    def save(self) -> None:
        """Raises RunError if the disk refuses."""
        try:
            write_sealed(self._path, self._fields)
        except OSError as error:
            raise RunError(
                f"{self._path} cannot be written: {error.strerror or error}. Make room, or choose another folder."
            ) from error
        self.is_saved = True

    def try_save(self) -> None:
        """Save if there is something to save and the disk takes it; `is_saved` tells."""
        if not self.is_saved:
            try:
                self.save()
            except RunError:  # the next flush tries again
                self.is_saved = False


def now() -> str:
    """This moment in UTC, to the millisecond, so that runs sort by it."""
    return datetime.now(UTC).isoformat(timespec="milliseconds")
