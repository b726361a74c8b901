"""Logged values after crashes, with concurrent readers, on damaged files and on full disks."""

import itertools
import json
import math
import random
import resource
import shutil
import sqlite3
import time
import warnings
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from run_cases import Child, make_run

from thruway.errors import RunError
from thruway.runs import Run, Table, open_run, series_file, series_reader, series_writer

INTERVAL = 0.03  # instead of one second, so that a kill comes after many flushes


def write_until_killed(folder: Path) -> Callable[[Callable[[object], None]], None]:
    def work(tell: Callable[[object], None]) -> None:
        series_writer.FLUSH_SECONDS = INTERVAL
        run = make_run(folder)
        for step in range(1_000_000):
            before = time.monotonic()
            run.log(step, {"x": [step, -step]}, member=[0, 1])
            tell(f"{before} {time.monotonic()} {run._series.frames}")
            time.sleep(0.0005)

    return work


def assert_killed_writer_loses_little(folder: Path, delay: float) -> int:
    """Return the number of steps that had to be on disk at the kill because of their age."""
    child = Child(write_until_killed(folder))
    lines = child.lines()
    sent = [next(lines)]
    time.sleep(delay)
    child.kill()
    sent += lines
    assert child.wait() == -9
    reader = open_run(folder)
    assert reader.status == "interrupted"
    table = reader.table()
    steps = table.where(member=0)["step"].tolist()
    assert steps == list(range(len(steps)))
    assert table.where(member=0)["value"].tolist() == steps
    assert table.where(member=1)["value"].tolist() == [-step for step in steps]
    assert len(steps) <= len(sent) + 1  # the last step may have been logged but not sent
    calls = [tuple(map(float, line.split())) for line in sent]
    assert len(steps) >= calls[-1][2]
    # Values older than the interval at the start of a call are on disk at its end.
    due = 0
    for before, _, flushed in calls:
        while before - calls[due][1] >= INTERVAL:
            due += 1
        assert flushed >= due
    with Run.resume(folder) as run:
        run.log(len(steps), {"x": [0.0, 0.0]}, member=[0, 1])
    again = open_run(folder)
    assert again.table().take(slice(0, len(table))) == table
    assert len(again.table()) == len(table) + 2
    assert (again.status, again.meta["resumed"]) == ("done", 1)
    return due


def test_a_killed_writer_leaves_a_prefix(tmp_path: Path) -> None:
    rng = random.Random(0)
    due = [assert_killed_writer_loses_little(tmp_path / str(trial), rng.uniform(0, 0.2)) for trial in range(5)]
    assert sum(due) > 0


@pytest.mark.slow
def test_forty_killed_writers_leave_prefixes(tmp_path: Path) -> None:
    rng = random.Random(1)
    due = [assert_killed_writer_loses_little(tmp_path / str(trial), rng.uniform(0, 0.4)) for trial in range(40)]
    assert sum(due) > 0


def killed_run(folder: Path, flushes: int) -> Table:
    """Create a run whose process was killed after `flushes` commits, and return its values."""

    def work(tell: Callable[[object], None]) -> None:
        run = make_run(folder)
        for step in range(flushes):
            run.log_sites(step, "x", [f"s{i}" for i in range(200)], np.arange(200) + step)
            run.flush()
        tell("flushed")
        time.sleep(60)

    child = Child(work)
    lines = child.lines()
    assert next(lines) == "flushed"
    child.kill()
    child.wait()
    lines.close()
    return open_run(folder).table()


def test_a_damaged_journal_leaves_a_prefix_that_can_be_continued(tmp_path: Path) -> None:
    whole = killed_run(tmp_path / "run", 30)
    assert len(whole) == 30 * 200
    journal = tmp_path / "run" / "series.db-wal"
    size = journal.stat().st_size
    rng = random.Random(2)
    refusals: list[str] = []
    for trial in range(12):
        folder = tmp_path / f"damaged{trial}"
        shutil.copytree(tmp_path / "run", folder)
        copy = folder / "series.db-wal"
        if trial % 2:
            with copy.open("rb+") as file:
                file.truncate(rng.randrange(size))
        else:
            damage(copy, rng.randrange(size))
        (folder / "series.db-shm").unlink()  # the shared memory, lost in a power failure
        try:
            table = open_run(folder).table()
        except RunError as error:  # the schema itself was lost
            refusals.append(str(error))
            continue
        assert table == whole.take(slice(0, len(table)))
        with Run.resume(folder) as run:
            run.log(99, {"x": 1.0})
        assert len(open_run(folder).table()) == len(table) + 1
    assert len(refusals) < 3
    assert all("series.db" in refusal for refusal in refusals)


def test_a_copy_of_the_folder_of_a_running_run_can_be_opened(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with make_run(tmp_path / "run") as run:
        run.log(0, {"x": 1.0})
        run.flush()
        shutil.copytree(run.folder, tmp_path / "copy")
        assert open_run(tmp_path / "copy").status == "interrupted"
        # As on read-only media, where SQLite cannot create its shared memory.
        monkeypatch.setattr(series_reader, "_is_readable", lambda connection: False)
        assert open_run(tmp_path / "copy").table()["value"].tolist() == [1.0]
        monkeypatch.undo()
        with Run.resume(tmp_path / "copy") as copied:
            copied.log(1, {"x": 2.0})
        assert open_run(tmp_path / "copy").table()["value"].tolist() == [1.0, 2.0]


def test_a_closed_series_is_one_file(tmp_path: Path) -> None:
    with make_run(tmp_path / "run") as run:
        run.log(0, {"x": 1.0})
    assert sorted(path.name for path in run.folder.iterdir()) == ["run.json", "series.db"]
    # SQLite's file format, sec. 1.3: 2 would require a journal file, which cannot be created on read-only media.
    assert (run.folder / "series.db").read_bytes()[18:20] == b"\1\1"


def test_concurrent_readers_see_growing_prefixes(tmp_path: Path) -> None:
    child = Child(write_until_killed(tmp_path / "run"))
    lines = child.lines()
    next(lines)
    try:
        reader = open_run(tmp_path / "run")
        tables = []
        deadline = time.monotonic() + 20
        while (len(tables) < 20 or len(tables[-1]) < 200) and time.monotonic() < deadline:
            tables.append(reader.table())
            assert reader.status == "running"
    finally:
        child.kill()
        child.wait()
        lines.close()
    assert len(tables[-1]) > len(tables[0])
    for earlier, later in itertools.pairwise(tables):
        assert later.take(slice(0, len(earlier))) == earlier
        assert len(later) % 2 == 0  # never a part of a frame


def test_without_write_ahead_logging_runs_work_as_well(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    # With SQLite's dot-file locks there is no shared memory, as on network file systems.
    connect = sqlite3.connect
    monkeypatch.setattr(series_file.sqlite3, "connect", lambda name, **how: connect(f"{name}&vfs=unix-dotfile", **how))
    with make_run(tmp_path / "run") as run:
        run.log(0, {"x": 1.0})
        run.flush()
        assert not (run.folder / "series.db-wal").exists()
        assert open_run(run.folder).table()["value"].tolist() == [1.0]
    assert open_run(run.folder).status == "done"


def damage(path: Path, place: int, bit: int = 3) -> None:
    with path.open("rb+") as file:
        file.seek(place)
        byte = file.read(1)[0]
        file.seek(place)
        file.write(bytes([byte ^ 1 << bit]))


@pytest.fixture(scope="module")
def closed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    with make_run(tmp_path_factory.mktemp("closed") / "run") as run:
        for step in range(60):
            run.log(step, {"loss": [step, step / 3]}, member=[0, 1])
            run.log_sites(step, "norm", [f"blocks.{i}" for i in range(20)], np.arange(20) * step)
    return run.folder


def assert_detected_or_harmless(folder: Path, whole: Table) -> bool:
    """Return True if the damage was detected. If not, all values must still be correct."""
    refusal = refused(folder, whole)
    if not refusal:
        return False
    assert str(folder / "series.db") in refusal
    if (
        "another run folder" in refusal or "newer Thruway" in refusal
    ):  # the flip changed the file type or format version
        return True
    assert "salvage=True" in refusal
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        left = open_run(folder, salvage=True).table()
    known = {tuple(row.values()) for row in whole.rows()}
    assert all(tuple(row.values()) in known for row in left.rows())
    return True


def refused(folder: Path, whole: Table) -> str:
    try:
        assert open_run(folder).table() == whole
    except RunError as error:
        return str(error)
    return ""


def count_detected_flips(closed: Path, folder: Path, places: list[tuple[int, int]]) -> int:
    whole = open_run(closed).table()
    shutil.copytree(closed, folder)
    clean = (closed / "series.db").read_bytes()
    found = 0
    for place, bit in places:
        (folder / "series.db").write_bytes(clean)
        damage(folder / "series.db", place, bit)
        found += assert_detected_or_harmless(folder, whole)
    return found


def test_flipped_bits_are_detected_or_harmless(closed: Path, tmp_path: Path) -> None:
    rng = random.Random(3)
    size = (closed / "series.db").stat().st_size
    places = [(rng.randrange(size), rng.randrange(8)) for _ in range(60)]
    # A flip in a value must be detected, one in unused space has no effect: at least the fraction of the file
    # that contains values, minus five standard errors.
    share = 60 * (2 * 8 + 20 * 8) / size
    assert count_detected_flips(closed, tmp_path / "run", places) > 60 * share - 5 * math.sqrt(60 * share * (1 - share))


@pytest.mark.slow
def test_a_flip_in_any_byte_of_the_schema_is_detected_or_harmless(closed: Path, tmp_path: Path) -> None:
    page = 4096  # the first page contains the schema
    count_detected_flips(
        closed, tmp_path / "run", [(place, place % 8) for place in (*range(200), *range(page - 800, page))]
    )


def test_zeroed_pages_and_truncated_files_are_detected(closed: Path, tmp_path: Path) -> None:
    whole = open_run(closed).table()
    folder = tmp_path / "run"
    shutil.copytree(closed, folder)
    clean = (closed / "series.db").read_bytes()
    for start in range(0, len(clean), 4096):
        (folder / "series.db").write_bytes(clean[:start] + bytes(4096) + clean[start + 4096 :])
        assert assert_detected_or_harmless(folder, whole)
        (folder / "series.db").write_bytes(clean[:start])
        assert assert_detected_or_harmless(folder, whole)


@pytest.mark.parametrize(
    "change", ["step = 1000", "step = 'x'", "width = 4", "data = zeroblob(16)", "crc = 0", "layout = 2"]
)
def test_a_damaged_frame_does_not_affect_others(closed: Path, tmp_path: Path, change: str) -> None:
    folder = tmp_path / "run"
    shutil.copytree(closed, folder)
    whole = open_run(folder).table()
    alter(folder, f"UPDATE frames SET {change} WHERE id = 7")
    intact = f"{len(whole) - 2:,} values can still be read"
    with pytest.raises(RunError, match=f"frame 7 does not match its checksum.*{intact}"):
        open_run(folder).table(steps=50)
    with pytest.warns(RuntimeWarning, match="frame 7"):
        left = open_run(folder, salvage=True).table()
    assert left == whole.where(step=lambda s: (s != 3) | (whole["quantity"] != "loss"))


def test_missing_frames_and_damaged_layouts_are_counted(closed: Path, tmp_path: Path) -> None:
    folder = tmp_path / "run"
    shutil.copytree(closed, folder)
    alter(folder, "DELETE FROM frames WHERE id = 7")
    with pytest.raises(RunError, match="1 of 120 frames are missing"):
        open_run(folder).table()
    alter(folder, "UPDATE layouts SET channels = replace(channels, 'loss', 'lose')")
    with pytest.raises(RunError, match="and 60 more"):  # the layout, and its 59 frames
        open_run(folder).table()


def alter(folder: Path, statement: str) -> None:
    connection = sqlite3.connect(folder / "series.db", isolation_level=None)
    connection.execute(statement)
    connection.close()


def test_a_missing_or_foreign_series_is_refused(closed: Path, tmp_path: Path) -> None:
    folder = tmp_path / "run"
    shutil.copytree(closed, folder)
    (folder / "series.db").unlink()
    with pytest.raises(RunError, match=r"series\.db is damaged: the file is missing"):
        open_run(folder).table()
    alter(folder, "CREATE TABLE mine(x)")
    with pytest.raises(RunError, match="not a Thruway series"):
        open_run(folder).table()
    with pytest.raises(RunError, match="not a Thruway series"):
        Run.resume(folder)
    (folder / "series.db").write_bytes(b"\0" * 9999 + b"x")
    with pytest.raises(RunError, match=r"series\.db cannot be opened"):
        Run.resume(folder)


def test_a_series_with_a_later_format_is_refused(closed: Path, tmp_path: Path) -> None:
    folder = tmp_path / "run"
    shutil.copytree(closed, folder)
    alter(folder, f"PRAGMA user_version = {series_file.FORMAT + 1}")
    for access in (lambda: open_run(folder).table(), lambda: Run.resume(folder)):
        with pytest.raises(RunError, match="Install the newer Thruway"):
            access()


def test_a_full_disk_does_not_stop_the_run_and_is_reported(tmp_path: Path) -> None:
    def work(tell: Callable[[object], None]) -> None:
        run = make_run(tmp_path / "run")
        sites = [f"s{i}" for i in range(500)]
        resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, resource.RLIM_INFINITY))
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            for step in range(100):
                run.log_sites(step, "x", sites, np.arange(500.0) + step)
                run.flush()
            during = open_run(run.folder)
            report = {"caught": [str(w.message) for w in caught], "during": during.status, "read": len(during.table())}
            resource.setrlimit(resource.RLIMIT_FSIZE, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))
            run.flush()
            report["after"] = run.status
            run.close()
            report["warned"] = len(caught)
        tell(json.dumps(report))

    child = Child(work)
    (line,) = child.lines()
    assert child.wait() == 0
    report = json.loads(line)
    assert report["during"] == "degraded"
    assert 0 < report["read"] < 50_000
    assert report["warned"] == 1
    assert "cannot be written" in report["caught"][0]
    assert "Free some space" in report["caught"][0]
    assert report["after"] == "running"
    reader = open_run(tmp_path / "run")
    assert reader.table()["value"].tolist() == [i + step for step in range(100) for i in range(500)]
    assert reader.status == "done"
    assert "values cannot be written" in reader.meta["problems"][0]
    assert "values are written again" in reader.meta["problems"][1]


class FailingConnection:
    """A connection on which selected statements fail, before or after they are executed."""

    def __init__(self, real: sqlite3.Connection, fails: Callable[[str], bool], after: bool) -> None:
        self._real, self._fails, self._after = real, fails, after

    def _do(self, name: str, sql: str, *rest: object) -> object:
        must_fail = self._fails(sql)
        if must_fail and not self._after:
            raise sqlite3.OperationalError("disk I/O error")
        result = getattr(self._real, name)(sql, *rest)
        if must_fail:
            raise sqlite3.OperationalError("disk I/O error")
        return result

    def execute(self, sql: str, *rest: object) -> object:
        return self._do("execute", sql, *rest)

    def executemany(self, sql: str, rows: object) -> object:
        return self._do("executemany", sql, rows)

    def close(self) -> None:
        self._real.close()


@pytest.mark.parametrize("statement", ["BEGIN", "INSERT INTO layouts", "INSERT INTO frames", "COMMIT"])
@pytest.mark.parametrize("after", [False, True], ids=["before", "after"])
def test_a_failed_statement_neither_loses_nor_duplicates_values(tmp_path: Path, statement: str, after: bool) -> None:
    run = make_run(tmp_path / "run")
    run.log(0, {"x": 0.0})
    run.flush()
    run._series._connection = FailingConnection(run._series._connection, lambda sql: sql.startswith(statement), after)  # type: ignore
    run.log(1, {"y": 1.0})
    run.log(2, {"y": 2.0})
    with pytest.warns(RuntimeWarning, match="disk I/O error"):
        run.flush()
    run.log(3, {"x": 3.0})
    run.close()
    assert run.status == "done"
    table = open_run(run.folder).table()
    assert table["value"].tolist() == [0.0, 1.0, 2.0, 3.0]
    with sqlite3.connect(run.folder / "series.db") as connection:
        assert connection.execute("SELECT count(*) FROM frames").fetchone() == (4,)
    connection.close()


def test_ctrl_c_during_a_flush_loses_no_values(tmp_path: Path) -> None:
    def interrupted(sql: str) -> bool:
        if sql == "COMMIT":
            raise KeyboardInterrupt
        return False

    def train() -> None:
        with make_run(tmp_path / "run") as run:
            run._series._connection = FailingConnection(run._series._connection, interrupted, False)  # type: ignore
            run.log(0, {"x": 1.0})
            run.flush()

    with pytest.raises(KeyboardInterrupt):
        train()
    assert open_run(tmp_path / "run").status == "interrupted"
    assert open_run(tmp_path / "run").table()["value"].tolist() == [1.0]


def test_a_run_whose_disk_stays_unwritable_ends_degraded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object) -> None:
        raise sqlite3.OperationalError("disk I/O error")

    monkeypatch.setattr(series_writer, "MAX_BUFFER_BYTES", 80)
    with make_run(tmp_path / "run") as run:
        run.log(0, {"x": 0.0})
        run.flush()
        monkeypatch.setattr(series_writer, "connect", refuse)
        run._series._disconnect()
        run.log(1, {"x": 1.0})
        with pytest.warns(RuntimeWarning, match="cannot be written"):
            run.flush()
        for step in range(2, 20):  # a second warning would be an error
            run.log(step, {"x": 1.0})
            run.flush()
    monkeypatch.undo()
    reader = open_run(run.folder)
    assert reader.status == "degraded"
    assert "9 logged steps" in reader.meta["problems"][-1]  # of 19, 10 fit into 80 bytes
    assert reader.table()["value"].tolist() == [0.0]
