"""A returned loss and other single numbers have sites, but are no layers."""

from pathlib import Path

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from thruway.watching import Trace, watch


class WithLoss(nn.Module):
    """Returns its outputs and the loss, as many language models do, and has a temperature that is a sigmoid."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.last = nn.Linear(4, 4), nn.Linear(4, 3)
        self.temperature = nn.Parameter(torch.tensor(-9.0))

    def forward(self, x: Tensor, targets: Tensor) -> tuple[Tensor, Tensor]:
        logits = self.last(self.first(x)) * torch.sigmoid(self.temperature * x.mean().abs())
        return logits, F.cross_entropy(logits, targets)


@pytest.fixture(scope="module")
def trace() -> Trace:
    model = WithLoss()
    with watch(model) as trace:
        for _ in range(2):
            model(torch.ones(5, 4), torch.zeros(5, dtype=torch.long))[1].backward()
    return trace


def test_scalars_are_marked_also_in_a_file(trace: Trace, tmp_path: Path) -> None:
    trace.save(tmp_path / "trace.npz")
    for each in (trace, Trace.load(tmp_path / "trace.npz")):
        outputs = {site.name: site for site in each.sites if site.kind == "output"}
        assert {name for name, site in outputs.items() if site.is_scalar} == {"sigmoid", "output[1]"}
        assert not any(site.is_activation for site in outputs.values())
        assert {site.name for site in each.sites if site.is_scalar and site.kind == "gradient"} >= {"output[1]"}


def test_the_loss_is_not_the_last_layer(trace: Trace) -> None:
    text = str(trace)
    assert "most saturated" not in text
    assert " at output[0]; first / last" in text
    html = trace._repr_html_()
    assert "last: output[0]" in html
    assert "output[1]" not in html


def test_the_loss_is_no_module_in_figures(trace: Trace) -> None:
    drawn = trace.figure("std", sites="modules")
    assert list(drawn.data[0].y) == ["first", "last", "output[0]"]
    assert "output[1]" in trace.series("mean").names


def test_parameters_that_are_a_single_number_are_no_scalars() -> None:
    model = WithLoss()
    optimizer = torch.optim.SGD(model.parameters(), 0.1)
    with watch(model, optimizer=optimizer) as trace:
        model(torch.ones(5, 4), torch.zeros(5, dtype=torch.long))[1].backward()
        optimizer.step()
    site = next(s for s in trace.sites if s.name == "temperature" and s.kind == "parameter")
    assert not site.is_scalar
