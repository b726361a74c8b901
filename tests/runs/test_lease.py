"""The writer lease: a single writer, takeover from dead writers, never from running ones."""

import json
import os
import time
from collections.abc import Callable
from pathlib import Path

import pytest
from run_cases import Child, make_run

from thruway.errors import RunError
from thruway.runs import Run, lease, open_run


def rewrite(run_folder: Path, **changes: object) -> None:
    path = run_folder / "writer.lease"
    path.write_text(json.dumps(json.loads(path.read_text()) | changes))


def abandoned(folder: Path) -> Run:
    """A run whose lease file remains although no process writes."""
    run = make_run(folder)
    contents = (folder / "writer.lease").read_bytes()
    run.close()
    (folder / "writer.lease").write_bytes(contents)
    return run


def test_a_second_writer_is_refused(run: Run) -> None:
    with pytest.raises(RunError, match="being written by this same process"):
        Run.resume(run.folder)

    def work(tell: Callable[[object], None]) -> None:
        try:
            Run.resume(run.folder)
        except RunError as error:
            tell(error)

    child = Child(work)
    assert f"being written by process {os.getpid()} on this machine" in next(child.lines())
    child.wait()
    run.log(0, {"loss": 1.0})
    run.flush()


STALE = {
    "another start of that process id": {"started": "1"},
    "no such process": {"pid": 4_194_999},
    "before a reboot": {"boot": "earlier"},
    "a copy of another folder": {"folder": 1},
}


@pytest.mark.parametrize("changes", STALE.values(), ids=STALE)
def test_the_lease_of_a_dead_writer_is_taken_over(tmp_path: Path, changes: dict[str, object]) -> None:
    abandoned(tmp_path / "run")
    with pytest.raises(RunError, match="being written"):
        Run.resume(tmp_path / "run")
    rewrite(tmp_path / "run", **changes)
    with Run.resume(tmp_path / "run"):
        pass
    assert not (tmp_path / "run" / "writer.lease").exists()


def test_a_writer_on_another_machine_has_a_timeout(tmp_path: Path) -> None:
    abandoned(tmp_path / "run")
    rewrite(tmp_path / "run", host="elsewhere", pid=1)
    path = tmp_path / "run" / "writer.lease"
    for age, held in ((lease.HEARTBEAT_TIMEOUT - 20, True), (lease.HEARTBEAT_TIMEOUT + 20, False)):
        os.utime(path, (time.time() - age,) * 2)
        assert lease.is_held(path.parent) is held
    os.utime(path)
    with pytest.raises(RunError, match=r"on another machine or in another container.*delete"):
        Run.resume(path.parent)


@pytest.mark.parametrize("contents", [b"", b"{", b"[]", b"\xff"])
def test_an_unreadable_lease_has_a_shorter_timeout(tmp_path: Path, contents: bytes) -> None:
    abandoned(tmp_path / "run")
    path = tmp_path / "run" / "writer.lease"
    path.write_bytes(contents)
    with pytest.raises(RunError, match="being written"):
        Run.resume(path.parent)
    os.utime(path, (time.time() - lease.CREATION_TIMEOUT - 1,) * 2)
    Run.resume(path.parent).close()


def test_a_zombie_counts_as_dead(tmp_path: Path) -> None:
    child = Child(lambda tell: (make_run(tmp_path / "run"), tell("up"), time.sleep(60)))
    lines = child.lines()
    next(lines)
    assert open_run(tmp_path / "run").status == "running"
    child.kill()
    lines.close()
    for _ in range(200):  # killed, not yet waited for
        if not lease.is_held(tmp_path / "run"):
            break
        time.sleep(0.01)
    Run.resume(tmp_path / "run").close()
    assert child.wait() == -9


def test_a_writer_that_lost_its_lease_stops(tmp_path: Path) -> None:
    run = make_run(tmp_path / "run")
    run.log(0, {"loss": 1.0})
    (run.folder / "writer.lease").unlink()
    other = Run.resume(run.folder)
    with pytest.raises(RunError, match="was taken over by this same process"):
        run.flush()
    other.log(0, {"loss": 2.0})
    with pytest.warns(RuntimeWarning, match="was not recorded"):
        run.close()
    assert open_run(run.folder).status == "running"
    other.close()
    assert open_run(run.folder).table()["value"].tolist() == [2.0]


def test_a_flush_renews_the_lease(run: Run) -> None:
    path = run.folder / "writer.lease"
    os.utime(path, (0, 0))
    run.flush()
    assert time.time() - path.stat().st_mtime < 60


def test_only_one_of_several_concurrent_takeovers_succeeds(tmp_path: Path) -> None:
    abandoned(tmp_path / "run")
    rewrite(tmp_path / "run", boot="earlier")
    refused = tmp_path / "refused"
    refused.mkdir()
    start = time.monotonic() + 0.1

    def work(tell: Callable[[object], None]) -> None:
        while time.monotonic() < start:
            pass
        try:
            held = lease.Lease.acquire(tmp_path / "run")
            tell("acquired")
            # On a busy machine the last process may start late, and could take over from a winner that has ended.
            while len(list(refused.iterdir())) < 7 and time.monotonic() < start + 60:
                time.sleep(0.05)
            held.heartbeat()
        except RunError as error:
            tell(error)
            (refused / str(os.getpid())).touch()

    children = [Child(work) for _ in range(8)]
    sent = [line for child in children for line in child.lines()]
    assert [child.wait() for child in children] == [0] * 8
    assert sum(line == "acquired" for line in sent) == 1
    assert len(sent) == 8  # the winner still held the lease at its heartbeat


def test_a_live_lease_is_put_back(tmp_path: Path) -> None:
    path = tmp_path / "writer.lease"
    path.write_bytes(b"live")
    lease._remove_stale(path, b"stale")  # another process took over between reading and renaming
    assert path.read_bytes() == b"live"
    lease._remove_stale(path, b"live")
    assert list(tmp_path.iterdir()) == []
