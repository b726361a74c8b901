"""Data-parallel training: the traces of the shards, merged, equal the trace of the whole batch."""

import math
import os
import socket
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from thruway.errors import ConfigError
from thruway.watching import Quantity, Trace, merged, watch
from thruway.watching.sites import KINDS

STEPS, BATCH = 3, 12
WATCHED = ["mean", "std", "abs_max", "zeros", "saturation_low", "rms", "nan", "inf", "norm", "count"]


class Net(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.first, self.branch, self.head = nn.Linear(4, 4), nn.Linear(4, 4), nn.Linear(4, 2)

    def forward(self, x: Tensor) -> Tensor:
        x = F.relu(self.first(x))
        x = x + torch.tanh(self.branch(x))
        return self.head(x)


def net() -> Net:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(4)
        return Net().double()


def batch(step: int) -> Tensor:
    generator = torch.Generator().manual_seed(step)
    # Shards that are not alike: the pooled spread is not the mean of the spreads.
    return torch.randn(BATCH, 4, dtype=torch.float64, generator=generator) + torch.arange(BATCH)[:, None] / 3


def loop(model: nn.Module, optimizer: torch.optim.Optimizer, rows: slice, *, reduce: str = "mean") -> None:
    for step in range(STEPS):
        optimizer.zero_grad()
        losses = model(batch(step)[rows]).square().sum(1)
        (losses.mean() if reduce == "mean" else losses.sum() / BATCH).backward()
        optimizer.step()


def whole() -> Trace:
    model = net()
    optimizer = torch.optim.SGD(model.parameters(), 0.01)
    with watch(model, optimizer=optimizer, quantities=WATCHED) as trace:
        loop(model, optimizer, slice(None))
    return trace


def assert_alike(one: Trace, other: Trace, kinds: Sequence[Any] = KINDS) -> None:
    for kind in kinds:
        assert one.quantities(kind) == other.quantities(kind) != []
        for quantity in one.quantities(kind):
            ours, theirs = one.series(quantity, kind), other.series(quantity, kind)
            assert ours.names == theirs.names
            assert ours.steps.tolist() == theirs.steps.tolist() == list(range(STEPS))
            # float64, summed in another order
            np.testing.assert_allclose(ours.values, theirs.values, 1e-9, 1e-13, err_msg=f"{quantity} of {kind}")


def _worker(rank: int, port: int, folder: str, whole_model: bool) -> None:
    torch.set_num_threads(1)
    os.environ |= {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port)}
    torch.distributed.init_process_group("gloo", rank=rank, world_size=2)
    try:
        parallel = nn.parallel.DistributedDataParallel(net())
        optimizer = torch.optim.SGD(parallel.parameters(), 0.01)
        watched = parallel if whole_model else parallel.module
        with watch(watched, optimizer=optimizer, quantities=WATCHED, probe=batch(0)) as trace:
            loop(parallel, optimizer, slice(rank * BATCH // 2, (rank + 1) * BATCH // 2))
        trace.save(Path(folder) / f"{rank}.npz")
    finally:
        torch.distributed.destroy_process_group()


@pytest.mark.slow
@pytest.mark.parametrize("whole_model", [True, False], ids=["the wrapper", "the model inside"])
def test_two_processes_see_what_one_would(tmp_path: Path, whole_model: bool) -> None:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    torch.multiprocessing.spawn(_worker, (port, str(tmp_path), whole_model), nprocs=2)
    ranks = [Trace.load(tmp_path / f"{rank}.npz") for rank in range(2)]
    single = whole()
    assert_alike(merged(ranks), single)
    # Each by itself: the shard's activations, and gradients of parameters that are the whole batch's already.
    for rank, trace in enumerate(ranks):
        first = net().first(batch(0)[rank * BATCH // 2 : (rank + 1) * BATCH // 2])
        assert trace.series("mean").values[0, 0] == pytest.approx(first.mean().item(), rel=1e-12)
        assert_alike(trace, single, ("parameter", "parameter_gradient", "update"))
        assert trace.probe is not None
        assert trace.probe.series("mean").names == trace.series("mean").names


def shard(rows: slice, *, reduce: str = "mean", quantities: Sequence[Any] = WATCHED) -> Trace:
    """The trace of a process whose optimizer uses the gradient of the whole batch."""
    model, twin = net(), net()
    optimizer = torch.optim.SGD(model.parameters(), 0.01)
    step_of_twin = torch.optim.SGD(twin.parameters(), 0.01)
    with watch(model, quantities=quantities) as trace:
        for step in range(STEPS):
            model.load_state_dict(twin.state_dict())
            optimizer.zero_grad()
            losses = model(batch(step)[rows]).square().sum(1)
            (losses.mean() if reduce == "mean" else losses.sum() / BATCH).backward()
            step_of_twin.zero_grad()
            twin(batch(step)).square().sum(1).mean().backward()
            step_of_twin.step()
    return trace


def test_shards_of_unequal_size_count_by_their_values() -> None:
    parts = [shard(slice(0, 7), reduce="sum"), shard(slice(7, 9), reduce="sum"), shard(slice(9, 12), reduce="sum")]
    assert_alike(merged(parts, losses="sum"), whole(), ("output", "gradient"))


def test_without_counts_equal_shards_still_make_the_whole() -> None:
    watched = [name for name in WATCHED if name != "count"]
    parts = [shard(slice(0, 6), quantities=watched), shard(slice(6, 12), quantities=watched)]
    joint, single = merged(parts), whole()
    for quantity in ("mean", "std", "abs_max", "branch_ratio"):
        np.testing.assert_allclose(joint.series(quantity).values, single.series(quantity).values, 1e-9)
    assert joint.branches == single.branches == {"add": ("branch.tanh", "first.relu")}


def test_bad_values_are_counted_over_all_processes() -> None:
    traces = []
    for rank in range(2):
        model = net()
        with watch(model, quantities=["mean", "std", "nan", "inf", "count"]) as trace:
            for step in range(3):
                x = batch(step)[:6]
                if step == 1:
                    x[: rank + 1, 0] = math.nan
                model(x).sum().backward()
        traces.append(trace)
    joint = merged(traces)
    assert joint.first_bad is not None
    assert (joint.first_bad.step, joint.first_bad.site.key, joint.first_bad.nan) == (1, ("input", "input"), 3)
    assert joint.series("nan", "output").values[0, 1] == 3 * 4
    finite = torch.cat([net().first(batch(1)[:6])[rank + 1 :] for rank in range(2)])
    assert joint.series("mean").values[0, 1] == pytest.approx(finite.mean().item(), rel=1e-9)
    assert joint.series("std").values[0, 1] == pytest.approx(finite.std(correction=0).item(), rel=1e-9)


def test_a_first_bad_value_that_was_let_go_is_still_the_first() -> None:
    traces = []
    for rank in range(2):
        model = net()
        with watch(model, quantities=["mean", "nan"], memory=500) as trace:
            for step in range(40):
                x = batch(0)
                if rank == 1 and step == 13:
                    x[0, 0] = math.nan
                model(x).sum().backward()
        assert 13 not in trace.steps
        traces.append(trace)
    joint = merged(traces)
    assert joint.first_bad is not None
    assert (joint.first_bad.step, joint.first_bad.site.key) == (13, ("input", "input"))
    assert joint.kept_every == traces[0].kept_every


def test_a_users_own_quantity_is_joined_by_its_own_rule() -> None:
    largest = Quantity("largest", "", lambda rows: rows.flat.amax(1), ("output",), merge="max")
    parts = [shard(slice(0, 6), quantities=[largest]), shard(slice(6, 12), quantities=[largest])]
    with pytest.raises(ConfigError, match=r"unknown quantity 'largest'.*Pass your own quantities as quantities="):
        merged(parts)
    found = merged(parts, quantities=[largest]).series("largest").values[0, 0]
    assert found == net().first(batch(0)).max().item()


Mistake = Callable[[], object]
MISTAKES: dict[str, tuple[Mistake, str]] = {
    "nothing": (lambda: merged([]), "no trace to merge"),
    "no step in common": (lambda: merged([shard(slice(0, 6)), watch(net()).__enter__()]), "no step in common"),
    "losses": (lambda: merged([shard(slice(0, 6))], losses="max"), "'mean' or 'sum', got 'max'"),  # type: ignore[arg-type]
}


@pytest.mark.parametrize("name", MISTAKES)
def test_mistakes_are_named(name: str) -> None:
    call, message = MISTAKES[name]
    with pytest.raises(ConfigError, match=message):
        call()
