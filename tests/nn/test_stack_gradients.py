"""The gradients that a HighwayStack hands to a hook on `gradients`."""

import pytest
import torch
from torch.testing import assert_close

from thruway.nn import HighwayStack


def _heard_gradients(stack, x, cotangent):
    """dL/dy of every layer as the tap gives them, and dL/dx."""
    heard = []
    handles = [
        stack.states.register_forward_hook(lambda *_: None),
        stack.gradients.register_forward_hook(lambda _m, _i, output: heard.append(output.clone())),
    ]
    x = x.clone().requires_grad_()
    stack(x).backward(cotangent)
    for handle in handles:
        handle.remove()
    return heard, x.grad


@pytest.mark.parametrize("depth", [1, 2, 3, 60])  # 60 layers are more than one chunk of the backward pass
@pytest.mark.parametrize("lead", [(), (7,), (2, 3)])
@pytest.mark.parametrize("activation", ["relu", "tanh"])
def test_gradients_are_those_of_the_layers_one_by_one(depth, lead, activation):
    generator = torch.Generator().manual_seed(depth)
    stack = HighwayStack(30, depth, activation, dtype=torch.float64, generator=generator)
    x = torch.randn(*lead, 30, dtype=torch.float64, generator=generator)
    cotangent = torch.randn(*lead, 30, dtype=torch.float64, generator=generator)
    heard, gradient = _heard_gradients(stack, x, cotangent)

    outputs, y = [], x.clone().requires_grad_()
    first = y
    for layer in stack.to_layers():
        y = layer(y)
        y.retain_grad()
        outputs.append(y)
    y.backward(cotangent)

    assert len(heard) == 1
    # Float64, another order of additions over at most 60 layers.
    assert_close(heard[0], torch.stack([output.grad for output in outputs]), rtol=1e-10, atol=1e-14)
    assert_close(gradient, first.grad, rtol=1e-10, atol=1e-14)


def test_hearing_changes_no_bit_of_the_parameters_gradients():
    generator = torch.Generator().manual_seed(0)
    stack = HighwayStack(20, 40, generator=generator)
    x, cotangent = torch.randn(9, 20, generator=generator), torch.randn(9, 20, generator=generator)
    stack(x).backward(cotangent)
    unheard = [p.grad.clone() for p in stack.parameters()]
    stack.zero_grad()
    _heard_gradients(stack, x, cotangent)
    assert all(torch.equal(p.grad, before) for p, before in zip(stack.parameters(), unheard, strict=True))
