"""A run to write."""

from collections.abc import Iterator
from pathlib import Path

import pytest
from run_cases import make_run

from thruway.runs import Run


@pytest.fixture
def run(tmp_path: Path) -> Iterator[Run]:
    with make_run(tmp_path / "run") as opened:
        yield opened
