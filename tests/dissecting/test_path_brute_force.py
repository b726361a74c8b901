"""Twelve blocks of three kinds: the exact sums against the gradient along each of the 4,096 paths, by Jacobians."""

import math

import pytest
import torch
from torch import nn

from thruway.dissecting import dissect
from thruway.nn import HighwayLinear, Residual

WIDTH, EXAMPLES = 4, 3
KINDS = ("identity", "gated", "projection", "gated", "identity", "projection") * 2


def built(dtype: torch.dtype) -> tuple[nn.Sequential, torch.Tensor]:
    with torch.random.fork_rng():
        torch.manual_seed(0)
        makers = {
            "identity": lambda: Residual(nn.Sequential(nn.Linear(WIDTH, WIDTH), nn.Tanh(), nn.Linear(WIDTH, WIDTH))),
            "projection": lambda: Residual(
                nn.Sequential(nn.Linear(WIDTH, 6), nn.Tanh(), nn.Linear(6, WIDTH)),
                shortcut=nn.Linear(WIDTH, WIDTH, bias=False),
            ),
            "gated": lambda: HighwayLinear(WIDTH, "tanh", gate_bias=0.0),
        }
        net = nn.Sequential(*(makers[kind]() for kind in KINDS)).to(dtype)
        return net, torch.randn(EXAMPLES, WIDTH, dtype=torch.float64).to(dtype)


def loss(output: torch.Tensor) -> torch.Tensor:
    return output.exp().sum(-1)


def jacobians(kind: str, block: nn.Module, x: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """dy/dx of one example along the shortcut, and through the branch; together the whole."""
    whole = torch.autograd.functional.jacobian(block, x)
    if kind == "identity":
        skip = torch.eye(WIDTH, dtype=x.dtype)
    elif kind == "projection":
        skip = block.shortcut.weight.detach()
    else:
        share = torch.sigmoid((block.weight @ x + block.bias)[WIDTH:])
        skip = torch.diag(1 - share).detach()
    return skip, whole - skip


def all_paths(net: nn.Sequential, x: torch.Tensor) -> tuple[torch.Tensor, list[int]]:
    """The gradient of one example along every path, (paths, WIDTH), and how many branches it takes."""
    streams = [x]
    for block in net:
        streams.append(block(streams[-1]).detach())
    paths, lengths = torch.autograd.functional.jacobian(loss, streams[-1]).reshape(1, WIDTH), [0]
    for kind, block, stream in reversed(list(zip(KINDS, net, streams[:-1], strict=True))):
        skip, through = jacobians(kind, block, stream)
        paths, lengths = torch.cat([paths @ skip, paths @ through]), lengths + [length + 1 for length in lengths]
    return paths, lengths


# float64: rounding of sums of at most 924 terms that partly cancel. float32: what is asked for.
@pytest.mark.parametrize(("dtype", "bound"), [(torch.float64, 1e-12), (torch.float32, 1e-5)], ids=str)
def test_twelve_mixed_blocks_agree_with_every_path_on_its_own(dtype, bound):
    net, x = built(dtype)
    ours = dissect(net, x).path_gradients(loss, keep=True)
    assert ours.paths == tuple(math.comb(12, k) for k in range(13))
    net, x = net.double(), x.double()
    for example in range(EXAMPLES):
        paths, lengths = all_paths(net, x[example])
        assert len(paths) == 2**12
        for length in range(13):
            theirs = paths[torch.tensor(lengths) == length].sum(0)
            error = (ours.gradients[length, example].double() - theirs).norm() / theirs.norm()
            assert error <= bound, length
            norm = ours.norms[length, example].item()
            assert norm == pytest.approx(theirs.norm().item(), rel=bound)


def test_the_mean_over_drawn_paths_comes_to_that_over_all():
    net, x = built(torch.float64)
    draws = 60
    drawn = dissect(net, x).sampled_paths(loss, draws=draws, generator=torch.Generator().manual_seed(0))
    by_example = [all_paths(net, one) for one in x]
    for length in range(13):
        chosen = torch.tensor(by_example[0][1]) == length
        norms = torch.stack([paths[chosen].norm(dim=1) for paths, _ in by_example]).mean(0)
        error = norms.std(correction=0).item() / math.sqrt(draws)
        # Five standard errors; a single path has none, and rounding only.
        assert abs(drawn.mean[length].item() - norms.mean().item()) <= 5 * error + 1e-12 * norms.mean().item()
