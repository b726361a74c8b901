"""Logged values are read back bit for bit and in order, also after resuming."""

import itertools
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule
from run_cases import make_run

from thruway.errors import RunError
from thruway.runs import Run, Table, open_run, read_runs, series_writer


def bits(values: Any) -> list[int]:
    return np.asarray(values, dtype="<f8").view("<u8").tolist()


def widened(values: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
    with np.errstate(invalid="ignore"):  # a signalling NaN
        return values.astype(np.float64)


def logged(log: Any) -> Table:
    with tempfile.TemporaryDirectory() as parent:
        with make_run(Path(parent, "run")) as run:
            log(run)
        return open_run(run.folder).table()


# Bit patterns instead of floats, to include NaN payloads, denormals and signed zeros.
ANY_BITS = st.one_of(
    hnp.arrays("<u8", st.integers(1, 40)).map(lambda a: a.view("<f8")),
    hnp.arrays("<u4", st.integers(1, 40)).map(lambda a: a.view("<f4")),
)


@pytest.fixture(scope="module")
def growing(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Run, Iterator[int]]]:
    """A run to which every example adds a step."""
    with make_run(tmp_path_factory.mktemp("growing") / "run") as run:
        yield run, itertools.count()


@settings(deadline=None)
@given(ANY_BITS)
def test_every_bit_is_preserved(growing: tuple[Run, Iterator[int]], values: np.ndarray[Any, Any]) -> None:
    run, steps = growing
    step = next(steps)
    run.log(step, {"x": values}, member=range(len(values)))
    run.flush()
    table = open_run(run.folder).table(steps=step)
    assert bits(table["value"]) == bits(widened(values))
    assert table["member"].tolist() == list(range(len(values)))


SPECIAL = [0.0, -0.0, 5e-324, -1.7976931348623157e308, float("inf"), -float("inf"), float("nan"), 0.1]


@pytest.mark.parametrize("value", SPECIAL, ids=str)
def test_python_floats_are_preserved(value: float) -> None:
    assert bits(logged(lambda run: run.log(0, {"x": value}))["value"]) == bits([value])


@pytest.mark.parametrize(
    "dtype", [torch.float64, torch.float32, torch.float16, torch.bfloat16, torch.int64, torch.bool], ids=str
)
def test_tensors_of_every_dtype_are_preserved(dtype: torch.dtype) -> None:
    tensor = torch.tensor([0.0, 1.0, -3.0, 0.099]).to(dtype)
    table = logged(lambda run: run.log(0, {"x": tensor.requires_grad_(tensor.is_floating_point())}, member=range(4)))
    assert table["value"].tolist() == tensor.double().tolist()


def test_mixed_dtypes_are_stored_in_the_wider_one() -> None:
    table = logged(lambda run: run.log(0, {"a": np.float32(0.1), "b": 0.1, "n": 7}))
    assert table["value"].tolist() == [float(np.float32(0.1)), 0.1, 7.0]


def test_float32_values_take_four_bytes(tmp_path: Path) -> None:
    sizes = {}
    for dtype in ("float32", "float64"):
        with make_run(tmp_path / dtype) as run:
            run.log_sites(0, "x", [f"s{i}" for i in range(100_000)], np.zeros(100_000, dtype))
        sizes[dtype] = (run.folder / "series.db").stat().st_size
    # The site names take the same space in both; the sizes may differ by a page or two.
    assert sizes["float64"] - sizes["float32"] == pytest.approx(400_000, abs=2 * 4096)


def test_rows_are_in_the_order_logged() -> None:
    def log(run: Run) -> None:
        run.log(5, {"loss": [1.0, 2.0], "rate": 0.5}, member=[7, 3])
        run.log(4, {"norm": 9.0}, site="blocks.0")
        run.log_sites(4, "norm", ["a", "b"], [1.0, 2.0], member=2)

    assert [tuple(row.values()) for row in logged(log).rows()] == [
        ("r", 7, 5, "", "loss", 1.0),
        ("r", 3, 5, "", "loss", 2.0),
        ("r", 7, 5, "", "rate", 0.5),
        ("r", 3, 5, "", "rate", 0.5),
        ("r", 0, 4, "blocks.0", "norm", 9.0),
        ("r", 2, 4, "a", "norm", 1.0),
        ("r", 2, 4, "b", "norm", 2.0),
    ]


def test_empty_calls_log_nothing() -> None:
    def log(run: Run) -> None:
        run.log(0, {})
        run.log(0, {"x": []}, member=[])
        run.log_sites(0, "x", [], [])

    assert len(logged(log)) == 0


def test_ten_thousand_sites_in_one_row(run: Run) -> None:
    sites = [f"blocks.{i}.gate" for i in range(10_000)]
    for step in range(3):
        run.log_sites(step, "mean", sites, np.arange(10_000) + step)
    run.flush()
    table = open_run(run.folder).table(site="blocks.9999.gate")
    assert table["value"].tolist() == [9999.0, 10000.0, 10001.0]


PICKS = st.fixed_dictionaries(
    {
        "member": st.none() | st.integers(0, 3) | st.lists(st.integers(0, 3)),
        "site": st.none() | st.sampled_from(["", "a", "zz"]) | st.sets(st.sampled_from(["", "a", "b"])),
        "quantity": st.none() | st.sampled_from(["loss", "norm", "none"]),
        "steps": st.none()
        | st.integers(-1, 12)
        | st.lists(st.integers(0, 12))
        | st.builds(range, st.integers(0, 9), st.integers(0, 12), st.integers(1, 3))
        | st.builds(slice, st.none() | st.integers(0, 9), st.none() | st.integers(0, 12)),
    }
)


@pytest.fixture(scope="module")
def varied(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("varied") / "run"
    with make_run(folder) as run:
        for step in range(10):
            run.log(step, {"loss": [step, step + 0.5], "norm": [1.0, 2.0]}, member=[0, 2])
            run.log_sites(step, "norm", ["a", "b"], [step, -step], member=1)
    return folder


@settings(max_examples=80, deadline=None)
@given(PICKS)
def test_a_selection_agrees_with_filtering_all_rows(varied: Path, picks: dict[str, Any]) -> None:
    def is_selected(value: Any, want: Any) -> bool:
        if isinstance(want, slice):
            return (want.start or 0) <= value and (want.stop is None or value < want.stop)
        return want is None or (value == want if isinstance(want, (int, str)) else value in want)

    reader = open_run(varied)
    names = {"member": "member", "site": "site", "quantity": "quantity", "steps": "step"}
    rows = [row for row in reader.table().rows() if all(is_selected(row[names[k]], want) for k, want in picks.items())]
    assert list(reader.table(**picks).rows()) == rows


def test_a_value_logged_again_replaces_the_first() -> None:
    def log(run: Run) -> None:
        run.log(0, {"x": 1.0})
        run.log(1, {"x": [2.0, 3.0]}, member=[0, 1])
        run.log(1, {"x": 4.0})

    assert [(r["step"], r["member"], r["value"]) for r in logged(log).rows()] == [(0, 0, 1.0), (1, 1, 3.0), (1, 0, 4.0)]


REFUSED = {
    "too few": (dict(values={"x": [1.0]}, member=[0, 1]), r"shape \(1,\) for 2 members"),
    "text": (dict(values={"x": "high"}), "real numbers"),
    "complex": (dict(values={"x": 1j}), "real numbers"),
    "none": (dict(values={"x": None}), "real numbers"),
    "ragged": (dict(values={"x": [[1.0], [1.0, 2.0]]}, member=[0, 1]), "flat sequence"),
    "member twice": (dict(values={"x": 1.0}, member=[4, 4]), "4 occurs twice in members"),
    "no name": (dict(values={3: 1.0}), "3 is not allowed in quantities"),
    "huge member": (dict(values={"x": 1.0}, member=1 << 64), "is not allowed in members"),
    "half a step": (dict(step=0.5, values={"x": 1.0}), "must be integers, got 0.5"),
    "huge step": (dict(step=1 << 63, values={"x": 1.0}), "64 bits"),
}


@pytest.mark.parametrize(("arguments", "message"), REFUSED.values(), ids=REFUSED)
def test_invalid_values_are_refused_and_the_run_continues(run: Run, arguments: dict[str, Any], message: str) -> None:
    with pytest.raises(RunError, match=message):
        run.log(**{"step": 0, **arguments})
    run.log(0, {"x": 1.5})
    run.flush()
    assert open_run(run.folder).table()["value"].tolist() == [1.5]


def test_the_caller_may_reuse_its_array(run: Run) -> None:
    buffer = np.array([1.0, 2.0])
    run.log(0, {"x": buffer}, member=[0, 1])
    buffer[:] = 0
    run.flush()
    assert open_run(run.folder).table()["value"].tolist() == [1.0, 2.0]


def test_several_runs_in_one_table(tmp_path: Path) -> None:
    for folder, name in (("a", "one"), ("b", "two"), ("c", "two")):
        with make_run(tmp_path / folder, name=name) as run:
            run.log(0, {"x": ord(folder)})
    assert read_runs([tmp_path / "a", tmp_path / "b"])["run"].tolist() == ["one", "two"]
    both = read_runs([tmp_path / "b", tmp_path / "c"])
    assert both["run"].tolist() == [str(tmp_path / "b"), str(tmp_path / "c")]
    assert both["value"].tolist() == [98.0, 99.0]


class RunAgainstList(RuleBasedStateMachine):
    """Random sequences of log, flush, kill, close and resume, compared with two lists: on disk, and buffered."""

    @initialize()
    def start(self) -> None:
        self.parent = tempfile.TemporaryDirectory()
        self.patch = pytest.MonkeyPatch()
        self.patch.setattr(series_writer, "FLUSH_SECONDS", 1e9)  # only explicit flushes
        self.run = make_run(Path(self.parent.name, "run"))
        self.disk: list[tuple[int, int, str, str, float]] = []
        self.buffered: list[tuple[int, int, str, str, float]] = []

    @rule(step=st.integers(0, 5), values=st.lists(st.floats(), min_size=1, max_size=3), site=st.sampled_from(["", "h"]))
    def log(self, step: int, values: list[float], site: str) -> None:
        self.run.log(step, {"x": values, "y": 1.0}, member=range(len(values)), site=site)
        self.buffered += [(member, step, site, "x", value) for member, value in enumerate(values)]
        self.buffered += [(member, step, site, "y", 1.0) for member in range(len(values))]

    @rule(step=st.integers(0, 5), count=st.integers(0, 4))
    def log_sites(self, step: int, count: int) -> None:
        self.run.log_sites(step, "x", [f"s{i}" for i in range(count)], np.arange(count, dtype=np.float32), member=1)
        self.buffered += [(1, step, f"s{i}", "x", float(i)) for i in range(count)]

    @rule()
    def flush(self) -> None:
        self.run.flush()
        self.disk, self.buffered = self.disk + self.buffered, []

    @rule()
    def close_and_resume(self) -> None:
        self.run.close()
        self.disk, self.buffered = self.disk + self.buffered, []
        self.run = Run.resume(self.run.folder)

    @rule()
    def kill_and_resume(self) -> None:
        self.run._series._disconnect()  # as when a process is killed: files are closed, memory is lost
        (self.run.folder / "writer.lease").unlink()
        self.buffered = []
        self.run = Run.resume(self.run.folder)

    @invariant()
    def read_is_what_is_on_disk(self) -> None:
        last: dict[tuple[Any, ...], float] = {}
        for *key, value in self.disk:
            last.pop(tuple(key), None)
            last[tuple(key)] = value
        rows = [tuple(row.values()) for row in open_run(self.run.folder).table().rows()]
        assert [row[1:5] for row in rows] == list(last)
        assert bits([row[5] for row in rows]) == bits(list(last.values()))

    def teardown(self) -> None:
        self.run.close()
        self.patch.undo()
        self.parent.cleanup()


RunAgainstList.TestCase.settings = settings(max_examples=10, stateful_step_count=15, deadline=None)
TestRunAgainstList = RunAgainstList.TestCase
