"""Tokens that attention makes alike, in sequences that differ."""

import math

import torch
from torch import Tensor, nn
from torch.nn import functional as F

import thruway as tw
from thruway.watching import Trace


class Attention(nn.Module):
    """One head of linear attention weights, normalised by softmax."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.q, self.k, self.v = (nn.Linear(width, width, bias=False) for _ in range(3))

    def forward(self, x: Tensor) -> Tensor:
        return F.scaled_dot_product_attention(self.q(x), self.k(x), self.v(x))


class Tagger(nn.Module):
    def __init__(self, depth: int, *, skips: bool) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.enter, self.leave = nn.Linear(9, 16), nn.Linear(16, 4)
        self.layers = nn.ModuleList(Attention(16) for _ in range(depth))
        self.skips = skips

    def forward(self, x: Tensor) -> Tensor:
        x = self.enter(x)
        for layer in self.layers:
            x = x + layer(x) if self.skips else 1.7 * layer(x)
        return self.leave(x)


def trained(net: nn.Module, *, is_alike: bool = False) -> Trace:
    """Train to name the largest of four numbers at each position."""
    generator = torch.Generator().manual_seed(2)
    optimizer = torch.optim.Adam(net.parameters(), 2e-3)
    with tw.watch(net, optimizer=optimizer) as trace:
        for _ in range(60):
            x = torch.randn(16, 11, 9, generator=generator)
            x = x[:, :1].expand_as(x).contiguous() if is_alike else x
            optimizer.zero_grad()
            F.cross_entropy(net(x).flatten(0, 1), x[..., :4].argmax(-1).flatten()).backward()
            optimizer.step()
    return trace


def test_tokens_become_alike_without_skips() -> None:
    net = Tagger(7, skips=False)
    trace = trained(net)
    (finding,) = (root for root in tw.diagnose(trace) if root.rule == "rank_collapse")
    assert finding.sites[-1] == "leave"
    assert finding.since == (None, 0)
    assert "tokens" in finding.cause
    (threshold, *_) = finding.evidence
    values = trace.series("position_correlation").values
    assert math.isclose(threshold.value, 1 - values[-1, 0], abs_tol=1e-12)
    assert values[-1, 0] > 1 - 1e-4
    assert trace.series("input_correlation").values[-1, 0] < 0.999  # the sequences are not alike


def test_skips_keep_tokens_apart() -> None:
    assert not [root for root in tw.diagnose(trained(Tagger(7, skips=True))) if root.rule == "rank_collapse"]


def test_tokens_that_are_alike_from_the_start() -> None:
    trace = trained(Tagger(7, skips=False), is_alike=True)
    assert not [root for root in tw.diagnose(trace) if "tokens" in root.cause]
