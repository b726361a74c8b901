"""Atomic writes of whole files."""

import pytest

from thruway.errors import RunError
from thruway.runs.files import write_atomically


def test_a_failed_write_leaves_the_old_file_and_nothing_else(tmp_path, monkeypatch):
    path = write_atomically(tmp_path / "new" / "report.html", b"old")
    monkeypatch.setattr("os.fsync", lambda _: (_ for _ in ()).throw(OSError("disk full")))
    with pytest.raises(RunError, match=r"report\.html.*disk full"):
        write_atomically(path, b"half of the n")
    assert path.read_bytes() == b"old"
    assert [each.name for each in path.parent.iterdir()] == ["report.html"]


def test_a_reader_in_the_middle_keeps_the_old_file(tmp_path):
    path = write_atomically(tmp_path / "report.html", b"old")
    with path.open("rb") as reader:
        write_atomically(path, b"new")
        assert reader.read() == b"old"
    assert path.read_bytes() == b"new"


def test_a_folder_that_cannot_be_made_is_a_clear_error(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(RunError, match="Choose a writable folder"):
        write_atomically(tmp_path / "file" / "report.html", b"")
