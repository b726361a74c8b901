"""Replayed hooks give the numbers of full hooks; a model that changes is recorded anew."""

import copy

import numpy as np
import pytest
import torch
from torch import nn

import thruway as tw
from thruway.watching.hooks.call_table import CallTable


class Highway(nn.Module):
    """Two Linears, with everything between them as functions."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.h, self.t = nn.Linear(width, width), nn.Linear(width, width)

    def forward(self, x):
        t = torch.sigmoid(self.t(x))
        return t * torch.relu(self.h(x)) + (1 - t) * x


class Residual(nn.Module):
    """In-place operations, one activation module called twice, and a tuple as output."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.conv, self.norm, self.act = (
            nn.Conv2d(channels, channels, 3, padding=1),
            nn.BatchNorm2d(channels),
            nn.ReLU(True),
        )

    def forward(self, x):
        y = self.norm(self.act(self.conv(x)))
        y += x
        return self.act(y) * 1.5


class Split(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.first, self.pool, self.last = nn.Linear(6, 6), nn.AvgPool1d(2), nn.Linear(3, 2)

    def forward(self, x):
        y = self.first(x)
        return {"pooled": self.last(self.pool(y)), "norm": nn.functional.layer_norm(y, (6,))}


def _total(output):
    return sum(t.square().mean() for t in output.values()) if isinstance(output, dict) else output.square().mean()


CASES = {
    "highway": lambda: (nn.Sequential(Highway(5), Highway(5)), torch.randn(7, 5)),
    "in-place convolutions": lambda: (nn.Sequential(Residual(3), Residual(3)), torch.randn(2, 3, 5, 5)),
    "dict output": lambda: (Split(), torch.randn(4, 6)),
    "transformer": lambda: (
        nn.TransformerEncoderLayer(8, 2, 16, dropout=0.0, batch_first=True),
        torch.randn(3, 4, 8),
    ),
    "stack": lambda: (nn.Sequential(nn.Linear(4, 6), tw.nn.HighwayStack(6, 3)), torch.randn(5, 4)),
    "lstm": lambda: (nn.Sequential(nn.LSTM(4, 3)), torch.randn(5, 2, 4)),
}


def _watched(model, x, steps=4):
    with tw.watch(model) as trace:
        for _ in range(steps):
            output = model(x)
            _total(output[0] if isinstance(output, tuple) else output).backward()
    return trace.table()


@pytest.mark.parametrize("case", CASES)
def test_replayed_hooks_give_the_numbers_of_full_hooks(case, monkeypatch):
    torch.manual_seed(0)
    model, x = CASES[case]()
    twin = copy.deepcopy(model)
    passes = []
    monkeypatch.setattr("thruway.watching.hooks.replayed_hooks.ReplayedHooks._enter", _counted("_enter", passes))
    replayed = _watched(model, x)
    assert passes  # otherwise this test would compare full hooks with full hooks
    monkeypatch.setattr(CallTable, "end_full_pass", lambda self: None)
    full = _watched(twin, x)
    for column in ("step", "kind", "site", "quantity"):
        assert list(replayed[column]) == list(full[column])
    assert np.array_equal(replayed["value"], full["value"], equal_nan=True)


def _counted(name, passes):
    from thruway.watching.hooks.replayed_hooks import ReplayedHooks

    original = getattr(ReplayedHooks, name)

    def counted(self, module, *call):
        passes.append(module)
        return original(self, module, *call)

    return counted


class Skipping(nn.Module):
    """Skips the layers in `without`."""

    def __init__(self) -> None:
        super().__init__()
        self.layers = nn.ModuleList(nn.Linear(4, 4) for _ in range(4))
        self.without: set[int] = set()

    def forward(self, x):
        for index, layer in enumerate(self.layers):
            if index not in self.without:
                x = x + torch.tanh(layer(x))
        return x


def test_a_skipped_layer_takes_no_other_layers_name():
    torch.manual_seed(0)
    model, x = Skipping(), torch.randn(6, 4)
    with tw.watch(model) as trace:
        for step in range(6):
            model.without = {1, 2} if step == 3 else {1} if step == 4 else set()
            model(x).square().mean().backward()
    series = trace.series("mean")
    by_name = dict(zip(series.names, series.values, strict=True))
    for index in range(4):
        with torch.no_grad():
            model.without = set()
            full = {}
            y = x
            for at, layer in enumerate(model.layers):
                full[at] = layer(y).mean().item()
                y = y + torch.tanh(layer(y))
        # The first step runs all layers, as does the last; weights never change here.
        assert by_name[f"layers.{index}"][0] == pytest.approx(full[index], rel=1e-5)
        assert by_name[f"layers.{index}"][5] == pytest.approx(full[index], rel=1e-5)
    assert np.isnan(by_name["layers.1"][[3, 4]]).all()
    assert np.isnan(by_name["layers.2"][3])
    with torch.no_grad():
        y = x + torch.tanh(model.layers[0](x))
        assert by_name["layers.3"][3] == pytest.approx(model.layers[3](y).mean().item(), rel=1e-5)


def test_a_model_that_changes_is_recorded_again():
    torch.manual_seed(0)
    model, x = nn.Sequential(nn.Linear(4, 4), nn.Tanh()), torch.randn(6, 4)
    with tw.watch(model) as trace:
        for step in range(6):
            if step == 3:
                model.append(nn.Linear(4, 2))
                model.append(nn.Sigmoid())
            model(x).square().mean().backward()
    assert "0" in trace.series("mean").names
    # Modules that came after the watch began have no hook of their own; the others are still captured.
    series = trace.series("mean")
    tanh = series.values[series.names.index("1")]
    assert np.isfinite(tanh).all()
