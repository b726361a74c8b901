"""Values written to TensorBoard, read back with TensorBoard's own reader during and after training."""

import math
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

from thruway.errors import ConfigError
from thruway.integrations import TensorBoard
from thruway.watching import Trace, watch
from thruway.watching.sites import KINDS

pytest.importorskip("tensorboard")
pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning")


@pytest.fixture
def net() -> nn.Module:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        return nn.Sequential(nn.Linear(3, 4), nn.Tanh(), nn.Linear(4, 2))


def train(net: nn.Module, steps: int = 3, *, first: int = 0) -> Iterator[int]:
    for step in range(first, first + steps):
        x = torch.randn(5, 3, generator=torch.Generator().manual_seed(step))
        net(x).square().sum().backward()
        yield step


def read(folder: Path) -> Any:
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    events = EventAccumulator(str(folder), size_guidance={"scalars": 0, "histograms": 0})
    events.Reload()
    return events


def assert_holds(events: Any, trace: Trace, kind: Any, quantity: str) -> None:
    series = trace.series(quantity, kind)
    for name, values in zip(series.names, series.values, strict=True):
        scalars = events.Scalars(f"{kind}.{quantity}/{name}")
        assert [scalar.step for scalar in scalars] == series.steps.tolist()
        # TensorBoard keeps float32
        np.testing.assert_allclose([scalar.value for scalar in scalars], values, 1e-6)


def test_every_value_is_written_under_its_tag(net: nn.Module, tmp_path: Path) -> None:
    optimizer = torch.optim.SGD(net.parameters(), 0.1)
    with TensorBoard(tmp_path) as board, watch(net, optimizer=optimizer, run=board) as trace:
        for _ in train(net):
            optimizer.step()
    events = read(tmp_path)
    wanted = {f"{k}.{q}/{name}" for k in KINDS for q in trace.quantities(k) for name in trace.series(q, k).names}
    assert set(events.Tags()["scalars"]) == wanted
    for kind in KINDS:
        assert_holds(events, trace, kind, "mean" if kind != "step" else "loss")
    assert_holds(events, trace, "update", "update_ratio")


def test_events_can_be_read_during_training(net: nn.Module, tmp_path: Path) -> None:
    board = TensorBoard(tmp_path)
    with watch(net, run=board):
        for step in train(net, 4):
            if step == 2:
                board._writer.flush()
                steps = [scalar.step for scalar in read(tmp_path).Scalars("output.mean/0")]
                assert steps == [0, 1]  # the step before is complete when a step begins
    board.close()


def test_only_the_chosen_quantities_are_written(net: nn.Module, tmp_path: Path) -> None:
    with TensorBoard(tmp_path, quantities=["std", "gradient.mean"]) as board, watch(net, run=board):
        list(train(net))
    found = {tag.partition("/")[0] for tag in read(tmp_path).Tags()["scalars"]}
    assert found == {"output.std", "gradient.std", "gradient.mean", "input.std"}


def test_non_finite_values_are_written_unchanged(tmp_path: Path) -> None:
    with TensorBoard(tmp_path) as board:
        board.log_sites(7, "output.mean", ["a", "b", ""], [math.nan, -math.inf, 0.5])
    events = read(tmp_path)
    a, b, root = (events.Scalars(f"output.mean/{name}")[0] for name in ("a", "b", "model"))
    assert math.isnan(a.value)
    assert (b.value, root.value, root.step) == (-math.inf, 0.5, 7)


def test_a_writer_of_the_users_own_stays_open(net: nn.Module, tmp_path: Path) -> None:
    from torch.utils.tensorboard import SummaryWriter

    writer = SummaryWriter(str(tmp_path))  # type: ignore[no-untyped-call]
    with TensorBoard(writer) as board, watch(net, run=board) as trace:
        list(train(net))
    writer.add_scalar("loss", 1.0, 9)  # type: ignore[no-untyped-call]
    writer.close()  # type: ignore[no-untyped-call]
    events = read(tmp_path)
    assert [scalar.step for scalar in events.Scalars("loss")] == [9]
    assert_holds(events, trace, "output", "mean")


def test_histograms_keep_their_counts_and_edges(net: nn.Module, tmp_path: Path) -> None:
    with TensorBoard(tmp_path) as board:
        with watch(net, quantities=["mean", "histogram"]) as trace:
            list(train(net, 12))
        board.log_histograms(trace)
    histograms = trace.histograms("output", 10)
    for name, edges, counts in zip(histograms.names, histograms.edges, histograms.counts, strict=True):
        steps = read(tmp_path).Histograms(f"output.histogram/{name}")
        assert [entry.step for entry in steps] == [0, 10]
        np.testing.assert_allclose(steps[1].histogram_value.bucket_limit, edges[1:])
        np.testing.assert_allclose(steps[1].histogram_value.bucket, counts)
        assert steps[1].histogram_value.num == 5 * (2 if name == "2" else 4)


def test_a_trace_without_histograms_raises_an_error(net: nn.Module, tmp_path: Path) -> None:
    with watch(net) as trace:
        list(train(net))
    with TensorBoard(tmp_path) as board, pytest.raises(ConfigError, match="histogram"):
        board.log_histograms(trace)


def test_without_tensorboard_the_error_says_how_to_install_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in [name for name in sys.modules if name.partition(".")[0] == "tensorboard"]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, "tensorboard", None)
    with pytest.raises(ConfigError, match=r"needs tensorboard.*pip install 'thruway\[tensorboard\]'"):
        TensorBoard(tmp_path)


@pytest.mark.slow
def test_importing_the_module_does_not_import_tensorboard() -> None:
    code = (
        "import sys, thruway.integrations; print(*(m for m in ('tensorboard', 'google.protobuf') if m in sys.modules))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == ""
