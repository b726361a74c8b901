"""The record of a run, run.json: config, status, and the versions, commit and hardware used.

The record does not contain names of machines or persons.
"""

import functools
import importlib.metadata
import os
import platform
import sqlite3
import subprocess
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
import torch

from thruway.errors import RunError
from thruway.runs.files import inside, plain_json, read_json_with_checksum, safe_name, write_json_with_checksum

__all__ = ["RECORD", "Record", "commit", "hardware", "now", "read_record", "versions"]

FORMAT = 1
RECORD = "run.json"
PROBLEMS = 20  # number of problems kept, so that a disk failing every second does not fill the file


def read_record(folder: Path) -> dict[str, Any]:
    """Read the fields of run.json. Raises RunError if the file is missing, damaged or in a newer format."""
    return read_json_with_checksum(inside(folder, RECORD), newest=FORMAT)


class Record:
    """The run.json of a run that is being written, kept in memory until it is saved."""

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
        """Write run.json. Raises RunError if the file cannot be written."""
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


def versions() -> dict[str, str]:
    """Return the versions of the software that results may depend on."""
    try:
        thruway = importlib.metadata.version("thruway")
    except importlib.metadata.PackageNotFoundError:
        thruway = "unknown"  # run from a source tree without installation
    return {
        "thruway": thruway,
        "torch": str(torch.__version__),
        "numpy": np.__version__,
        "python": platform.python_version(),
        "sqlite": sqlite3.sqlite_version,
        "system": f"{platform.system()} {platform.machine()}",
    }


@functools.cache  # the imported code does not change while the process runs
def commit() -> dict[str, Any] | None:
    """Return the commit of the checkout of this package and whether it has changes, or None outside a checkout."""
    here = Path(__file__).resolve()
    # This file must be tracked: the package may be installed inside another repository.
    if _git(here.parent, "ls-files", "--error-unmatch", here.name) is None:
        return None
    head = _git(here.parent, "rev-parse", "HEAD")
    changes = _git(here.parent, "status", "--porcelain", "--untracked-files=no")
    return None if head is None or changes is None else {"commit": head, "dirty": bool(changes)}


def hardware(device: str) -> dict[str, Any]:
    """Return processor, cores, threads and memory, and the GPUs if `device` is a CUDA device."""
    found: dict[str, Any] = {
        "cpu": _cpu(),
        "cores": os.cpu_count(),
        "threads": torch.get_num_threads(),
        "memory_gib": _memory(),
    }
    # Not queried on the CPU, since it would initialise CUDA.
    if device.startswith("cuda") and torch.cuda.is_available():
        found["gpus"] = [torch.cuda.get_device_name(index) for index in range(torch.cuda.device_count())]
    return found


def _git(folder: Path, *arguments: str) -> str | None:
    # GIT_DIR, set inside a git hook, would select another repository.
    environment = {key: value for key, value in os.environ.items() if not key.startswith("GIT_")}
    command = ["git", "--no-optional-locks", *arguments]
    try:
        answer = subprocess.run(command, cwd=folder, env=environment, capture_output=True, timeout=10, check=True)
    except (OSError, subprocess.SubprocessError):
        return None
    return answer.stdout.decode(errors="replace").strip()


def _cpu() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        lines = []
    models = (line.partition(":")[2].strip() for line in lines if line.startswith("model name"))
    return next(models, platform.processor() or platform.machine())


def _memory() -> float | None:
    try:
        return round(os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30, 1)
    except (AttributeError, ValueError, OSError):
        return None
