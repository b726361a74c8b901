"""The record of a run, run.json: its config, the code and hardware it ran on, and its status."""

from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from thruway.errors import RunError
from thruway.runs.files import inside, plain_json, read_json_with_checksum, safe_name, write_json_with_checksum
from thruway.runs.provenance import commit, hardware, versions

__all__ = ["RECORD", "Record", "now", "read_record"]

FORMAT = 1
RECORD = "run.json"
PROBLEMS = 20  # number of problems kept, so that a disk failing every second does not fill the file


def read_record(folder: Path) -> dict[str, Any]:
    """Read the fields of run.json. Raises RunError if it is missing, damaged or of a later format."""
    return read_json_with_checksum(inside(folder, RECORD), newest=FORMAT)


class Record:
    """The run.json of a run that is being written, in memory until saved."""

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
        """Create a record, not yet saved. Raises RunError if a value is not plain JSON."""
        values = {"config": config, "seeds": seeds, "command": command, "device": device, "extra": extra or {}}
        fields = {
            "format": FORMAT,
            "name": safe_name(name, "run"),
            "status": "running",
            "created": now(),
            "ended": None,
            "error": None,
            "problems": [],
            "resumed": 0,
            **{field: plain_json(value, field) for field, value in values.items()},
            "versions": versions(),
            "git": commit(),
            "hardware": hardware(str(device)),
            "resumptions": [],
        }
        return cls(folder, fields)

    def __getitem__(self, field: str) -> Any:
        return self._fields[field]

    def mark_resumed(self) -> None:
        """Record that the run was resumed, with the current versions and commit."""
        self._fields |= {"status": "running", "ended": None, "error": None, "resumed": self["resumed"] + 1}
        self._fields["resumptions"].append({"at": now(), "versions": versions(), "git": commit()})
        self.is_saved = False

    def set_status(self, status: str) -> None:
        """Set the status of the running run."""
        self._fields["status"] = status
        self.is_saved = False

    def end(self, status: str, error: str | None) -> None:
        """Set the final status, the end time and the error."""
        self._fields |= {"status": status, "ended": now(), "error": error}
        self.is_saved = False

    def add_problem(self, problem: str) -> None:
        """Add a sentence to the list of problems."""
        self._fields["problems"] = [*self["problems"], problem][-PROBLEMS:]
        self.is_saved = False

    def save(self) -> None:
        """Write run.json. Raises RunError if it cannot be written."""
        try:
            write_json_with_checksum(self._path, self._fields)
        except OSError as error:
            raise RunError(
                f"{self._path} cannot be written: {error.strerror or error}. Free some space, or choose another folder."
            ) from error
        self.is_saved = True

    def try_save(self) -> None:
        """Save if there are changes; a failure leaves `is_saved` False."""
        if not self.is_saved:
            try:
                self.save()
            except RunError:  # the next flush tries again
                self.is_saved = False


def now() -> str:
    """Return the current time in UTC with milliseconds, in a format that sorts chronologically."""
    return datetime.now(UTC).isoformat(timespec="milliseconds")
