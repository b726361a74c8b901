"""Small runs of any study: created, interrupted, finished and read back."""

import json
import math
from pathlib import Path
from typing import Any

from pydantic import BaseModel

from thruway.experiments import STUDIES
from thruway.experiments.machinery import Progress, Silent
from thruway.runs import Run, open_run

__all__ = ["StopsAt", "as_json", "complete", "create", "numbers", "run_until_stopped", "strict"]


class StopsAt:
    """Progress that counts its calls, and interrupts the run at the k-th one, from 1."""

    def __init__(self, k: float) -> None:
        self.left, self.reports, self.total, self.done = k, 0, 0.0, 0.0

    def begin(self, total: float) -> None:
        self.total = total

    def advance(self, done: float, doing: str) -> None:
        self.done += done
        self.reports += 1
        self.left -= 1
        if self.left == 0:
            raise KeyboardInterrupt


def create(folder: Path, name: str, config: BaseModel) -> Run:
    """Create the run folder of a study, without running it."""
    stored = config.model_dump(mode="json")
    return Run.create(folder, stored, name=name, command=["test"], seeds={"seed": stored["seed"]}, device="cpu")


def run_until_stopped(
    run: Run, name: str, config: BaseModel, progress: Progress | None = None, prepared: Any = None
) -> bool:
    """Run a study, or resume it. Return False if `progress` interrupts it."""
    study = STUDIES[name]
    try:
        with run:
            data = study.prepare(config) if prepared is None else prepared
            study.run(config, data, run, progress or Silent())
    except KeyboardInterrupt:
        return False
    return True


def complete(folder: Path, name: str, config: BaseModel, progress: Progress | None = None) -> Path:
    """Run a study to the end."""
    assert run_until_stopped(create(folder, name, config), name, config, progress)
    return folder


def numbers(folder: Path) -> dict[tuple[str, ...], str]:
    """Every logged value by name, as text, in which NaN equals NaN; without the seconds, which differ between runs."""
    table = open_run(folder).table()
    columns = zip(*(table[name] for name in ("site", "member", "step", "quantity", "value")), strict=True)
    return {tuple(map(str, row[:4])): str(row[4]) for row in columns if row[3] != "seconds"}


def strict(text: str) -> Any:
    """Parse JSON as the standard defines it, without NaN and Infinity."""

    def refuse(word: str) -> None:
        raise ValueError(f"{word} is not JSON")

    return json.loads(text, parse_constant=refuse)


def as_json(value: Any) -> Any:
    """The value as a summary stores it: None if it is not finite."""
    return None if isinstance(value, float) and not math.isfinite(value) else value
