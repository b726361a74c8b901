"""Vectorised Jacobians equal the ones computed row by row."""

import pytest
import torch
from nn_cases import seeded
from torch import Tensor, nn
from torch.autograd.functional import jacobian
from torch.testing import assert_close

from thruway.nn import HighwayConv1d, HighwayConv2d, HighwayConv3d, HighwayStack, RecurrentHighway

EXACT = {"rtol": 1e-12, "atol": 1e-12}  # float64, sums of a few dozen numbers of size 1
OF = {"gate_bias": -0.5, "dtype": torch.float64}
LAYERS = {
    "conv1d": lambda: (HighwayConv1d(2, 3, "tanh", generator=seeded(), **OF), (2, 2, 5)),
    "conv2d": lambda: (HighwayConv2d(2, 3, generator=seeded(), **OF), (2, 2, 3, 3)),
    "conv3d": lambda: (HighwayConv3d(2, 3, generator=seeded(), **OF), (1, 2, 2, 2, 2)),
    "stack": lambda: (HighwayStack(3, 4, "tanh", recompute=False, generator=seeded(), **OF), (2, 3)),
    "stack that recomputes": lambda: (HighwayStack(3, 4, recompute=True, generator=seeded(), **OF), (2, 3)),
    "recurrent": lambda: (RecurrentHighway(3, 4, 2, generator=seeded(), **OF), (3, 2, 3)),
    "recurrent, masked": lambda: (Masked(), (5, 3)),
}


class Masked(nn.Module):
    """A module with the same masks at every call and sequences of different lengths."""

    def forward(self, x: Tensor) -> Tensor:
        layer = RecurrentHighway(3, 4, 2, dropout=0.5, generator=seeded(), coins=seeded(1), **OF)
        return layer(nn.utils.rnn.PackedSequence(x, torch.tensor([2, 2, 1])))[0].data


def output_of(layer: nn.Module, x: Tensor) -> Tensor:
    y = layer(x)
    return y[0] if isinstance(y, tuple) else y


@pytest.mark.parametrize("create_graph", [False, True])
@pytest.mark.parametrize("name", LAYERS)
def test_a_vectorised_jacobian_equals_the_one_row_by_row(name: str, create_graph: bool) -> None:
    layer, shape = LAYERS[name]()
    x = torch.randn(shape, dtype=torch.float64, generator=seeded(2))
    found = jacobian(lambda x: output_of(layer, x), x, create_graph=create_graph, vectorize=True)
    expected = jacobian(lambda x: output_of(layer, x), x, create_graph=create_graph)
    assert found.requires_grad == create_graph
    assert_close(found, expected, **EXACT)
    if create_graph and (parameters := list(layer.parameters())):
        again, twice = (torch.autograd.grad(each.square().sum(), parameters) for each in (found, expected))
        assert_close(again, twice, **EXACT)


@pytest.mark.parametrize("name", LAYERS)
def test_batched_gradients_of_parameters(name: str) -> None:
    layer, shape = LAYERS[name]()
    x = torch.randn(shape, dtype=torch.float64, generator=seeded(2)).requires_grad_()
    y = output_of(layer, x)
    directions = torch.randn(3, *y.shape, dtype=torch.float64, generator=seeded(4))
    wanted = [x, *layer.parameters()]

    def pulled(g: Tensor) -> tuple[Tensor, ...]:
        return torch.autograd.grad(y, wanted, g, retain_graph=True)

    expected = [torch.stack(rows) for rows in zip(*map(pulled, directions), strict=True)]
    found = torch.autograd.grad(y, wanted, directions, retain_graph=True, is_grads_batched=True)
    assert_close(list(found), expected, **EXACT)
    assert not any(each.requires_grad for each in found)
    assert_close(list(torch.func.vmap(pulled)(directions)), expected, **EXACT)
