"""The fixture `run`: a new run, open for writing."""

from collections.abc import Iterator
from pathlib import Path

import pytest
from run_cases import make_run

from thruway.runs import Run


@pytest.fixture
def run(tmp_path: Path) -> Iterator[Run]:
    with make_run(tmp_path / "run") as new_run:
        yield new_run
