"""The wheel holds every file of the package, and the package works from it."""

import os
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest
from hatchling import build

ROOT = Path(__file__).parents[1]
PACKAGE = ROOT / "src" / "thruway"


@pytest.fixture(scope="module")
def unpacked(tmp_path_factory):
    """The folder that an installed wheel would be unpacked into."""
    folder = tmp_path_factory.mktemp("wheel")
    before = Path.cwd()
    os.chdir(ROOT)
    try:
        name = build.build_wheel(str(folder))
    finally:
        os.chdir(before)
    with zipfile.ZipFile(folder / name) as wheel:
        wheel.extractall(folder / "site")
    return folder / "site"


def test_the_wheel_holds_every_file_of_the_package(unpacked):
    in_source = {
        str(path.relative_to(PACKAGE))
        for path in PACKAGE.rglob("*")
        if path.is_file() and "__pycache__" not in path.parts
    }
    in_wheel = {
        str(path.relative_to(unpacked / "thruway")) for path in (unpacked / "thruway").rglob("*") if path.is_file()
    }
    assert in_wheel == in_source
    # Files that are not Python: a loop in C, the report's page, the digits, and the marker of typed packages.
    assert {".c", ".css", ".js", ".npz"} <= {Path(name).suffix for name in in_wheel}
    assert "py.typed" in in_wheel


@pytest.mark.slow
def test_the_package_works_from_the_wheel(unpacked, tmp_path):
    script = (
        "import thruway; from thruway.cli import main;"
        "print(thruway.__file__, len(thruway.data.load('digits'))); main(['list'])"
    )
    environment = os.environ | {"PYTHONPATH": str(unpacked)}
    done = subprocess.run(
        [sys.executable, "-c", script], env=environment, cwd=tmp_path, capture_output=True, text=True, check=True
    )
    assert done.stdout.startswith(str(unpacked))
    assert "highway2015.depth" in done.stdout
