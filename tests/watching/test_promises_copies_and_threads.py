"""Copies, saved files, moves and threads of a watched model do not affect the training."""

import copy
import io
import pickle
import threading

import pytest
import torch
from torch import nn

import thruway as tw
from thruway.runs import Run
from thruway.watching import WatchWarning


def _net():
    return nn.Sequential(nn.Linear(4, 5), nn.ReLU(), nn.Linear(5, 3))


def _step(net, x):
    net(x).sum().backward()
    net.zero_grad()


def _saved(net):
    file = io.BytesIO()
    torch.save(net, file)
    file.seek(0)
    return torch.load(file, weights_only=False)


@pytest.mark.parametrize(
    "again", [copy.deepcopy, _saved, lambda net: pickle.loads(pickle.dumps(net))], ids=["deepcopy", "save", "pickle"]
)
@pytest.mark.parametrize("has_optimizer", [False, True])
@pytest.mark.parametrize("steps", [1, 3])  # full hooks, and replayed hooks
def test_a_copy_is_not_watched_and_the_original_still_is(again, has_optimizer, steps, tmp_path):
    net, x = _net(), torch.randn(6, 4, generator=torch.Generator().manual_seed(0))
    optimizer = torch.optim.SGD(net.parameters(), lr=0.1) if has_optimizer else None
    with (
        Run.create(tmp_path / "run", {}, name="watched", command=["python"], seeds={}, device="cpu") as run,
        tw.watch(net, optimizer=optimizer, run=run) as trace,
    ):
        for _ in range(steps):
            _step(net, x)
            if optimizer is not None:
                optimizer.step()
        twin = again(net)
        for _ in range(5):
            _step(twin, x)
        with torch.no_grad():
            assert torch.equal(twin(x), net(x))
        seen = len(trace.steps)
    assert seen == steps
    for module in twin.modules():
        for hook in (*module._forward_hooks.values(), *module._forward_pre_hooks.values()):
            assert hook(module, (x,), x) is None
    assert pickle.dumps(twin)
    assert not any(module._forward_hooks or module._forward_pre_hooks for module in net.modules())


@pytest.mark.parametrize("steps", [1, 3])  # full hooks, and replayed hooks
def test_a_watched_model_is_saved_without_hooks(steps):
    net, x = _net(), torch.randn(6, 4, generator=torch.Generator().manual_seed(0))
    net.register_forward_hook(_own_hook)
    before = vars(nn.Module).get("__reduce_ex__")
    with tw.watch(net), tw.watch(net):
        for _ in range(steps):
            _step(net, x)
        watched = pickle.dumps(net)
        assert len(net._forward_hooks) > 1
    assert watched == pickle.dumps(net)
    assert [*pickle.loads(watched)._forward_hooks.values()] == [_own_hook]
    assert vars(nn.Module).get("__reduce_ex__") is before


def test_a_watched_layer_with_a_state_of_its_own_is_saved_without_hooks():
    """nn.LSTM defines __getstate__."""
    net, x = nn.Sequential(nn.LSTM(4, 3)), torch.randn(2, 5, 4, generator=torch.Generator().manual_seed(0))
    with tw.watch(net):
        net(x)[0].sum().backward()
        watched = pickle.dumps(net)
        twin = copy.deepcopy(net)
        assert net[0]._forward_hooks
    assert b"thruway" not in watched
    assert not twin[0]._forward_hooks
    assert torch.equal(twin(x)[0], net(x)[0])


def _own_hook(*_):
    """A hook of the user's, which is kept."""


def test_a_model_moved_inside_the_block_ends_no_process():
    net, x = _net(), torch.randn(6, 4)

    def train():
        with tw.watch(net):
            _step(net, x)
            net.to("meta")
            net(x.to("meta")).sum().backward()

    with pytest.warns(WatchWarning, match="no data"):
        train()


class _Sign(nn.Module):
    def forward(self, x):
        return torch.sgn(x)  # its gradient is a symbol for zeros, without memory


def test_a_gradient_of_symbolic_zeros_is_zero():
    net = nn.Sequential(nn.Linear(4, 5), _Sign())
    with tw.watch(net) as trace:
        for _ in range(2):
            net(torch.randn(6, 4)).sum().backward()
    series = trace.series("std", "gradient")
    assert series.values[series.names.index("0")].tolist() == [0.0, 0.0]


class _Negated(nn.Module):
    def forward(self, x):
        return torch._neg_view(x * 2)


def test_a_negated_view_has_its_own_sign():
    x = torch.randn(6, 4, generator=torch.Generator().manual_seed(0)).requires_grad_()
    net = nn.Sequential(_Negated())
    with tw.watch(net) as trace:
        net(x).sum().backward()
    # In float32, some roundings of 6e-8.
    assert trace.series("mean", "output").values[0, 0] == pytest.approx(-2 * x.double().mean().item(), rel=1e-5)


@pytest.mark.parametrize("steps", [1, 30])
def test_two_threads_are_no_harm(steps):
    net, x, errors = _net(), torch.randn(6, 4), []

    def train():
        try:
            for _ in range(steps):
                net(x).sum().backward()
        except Exception as error:
            errors.append(error)

    with tw.watch(net) as trace:
        threads = [threading.Thread(target=train) for _ in range(3)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    assert errors == []
    assert trace.failure is None
    assert trace.steps
    assert not any(module._forward_hooks or module._forward_pre_hooks for module in net.modules())


@pytest.mark.parametrize(
    ("offset", "spread"), [(8388608.0, None), (1e6, 1.0), (100.0, 1e-3)], ids=["two values", "1e6", "100"]
)
@pytest.mark.parametrize("is_native", [True, False])
def test_the_spread_about_a_large_offset(offset, spread, is_native, monkeypatch):
    if not is_native:
        monkeypatch.setattr("thruway.watching.quantities.collector.native_functions", lambda: None)
    noise = torch.randn(8, 6, generator=torch.Generator().manual_seed(0))
    tensor = offset + (torch.arange(48).reshape(8, 6) % 2 if spread is None else noise * spread)
    net = nn.Sequential(nn.Identity())
    with tw.watch(net) as trace:
        net(tensor.requires_grad_()).sum().backward()
    exact = tensor.detach().double().std(correction=0).item()
    # Deviations are exact in float32; their sums are some tens of roundings of 6e-8.
    assert trace.series("std", "output").values[0, 0] == pytest.approx(exact, rel=1e-5)
