"""Scripts that are run twice, in processes of their own: by the python command, and by `thruway watch`."""

import dataclasses
import os
import subprocess
import sys
import textwrap
from collections.abc import Callable
from pathlib import Path

import pytest

from thruway.watching import Trace


@dataclasses.dataclass(frozen=True)
class Ended:
    """A process that has ended."""

    code: int
    out: bytes
    err: str


@dataclasses.dataclass(frozen=True)
class Place:
    """A folder with a script."""

    folder: Path

    def write(self, name: str, source: str) -> Path:
        path = self.folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(textwrap.dedent(source))
        return path

    def python(self, *arguments: str, stdin: str = "") -> Ended:
        done = subprocess.run(
            [sys.executable, *arguments],
            cwd=self.folder,
            input=stdin.encode(),
            capture_output=True,
            check=False,
            timeout=400,
            env={**os.environ, "OMP_NUM_THREADS": "1", "PYTHONDONTWRITEBYTECODE": "1"},
        )
        return Ended(done.returncode, done.stdout, done.stderr.decode())

    def watched(self, *arguments: str, stdin: str = "") -> Ended:
        return self.python("-m", "thruway.watch", *arguments, stdin=stdin)

    def both(self, *arguments: str, stdin: str = "") -> tuple[Ended, Ended]:
        """Run a script bare and watched. The output and the exit code are compared."""
        bare, watched = self.python(*arguments, stdin=stdin), self.watched(*arguments, stdin=stdin)
        assert watched.out == bare.out, watched.err
        assert watched.code == bare.code, watched.err
        return bare, watched

    def traces(self, folder: str = "thruway-watch") -> dict[str, Trace]:
        return {path.stem: Trace.load(path) for path in sorted((self.folder / folder).glob("*.npz"))}


@pytest.fixture
def place(tmp_path: Path) -> Place:
    """A folder of its own."""
    return Place(tmp_path)


@pytest.fixture
def without_ours() -> Callable[[str], str]:
    """The standard error of a script without what we print at the end, which begins with an empty line."""
    return lambda err: err.partition("\n\nTrace of")[0].rstrip("\n")
