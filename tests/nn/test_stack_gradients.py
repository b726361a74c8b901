"""The gradients that a HighwayStack hands to a hook on `gradients`."""

import pytest
import torch
from torch.testing import assert_close

from thruway.nn import HighwayStack


def _hooked_gradients(stack, x, cotangent):
    """dL/dy of every layer as received by the hook, and dL/dx."""
    recorded = []
    handles = [
        stack.states.register_forward_hook(lambda *_: None),
        stack.gradients.register_forward_hook(lambda _m, _i, output: recorded.append(output.clone())),
    ]
    x = x.clone().requires_grad_()
    stack(x).backward(cotangent)
    for handle in handles:
        handle.remove()
    return recorded, x.grad


@pytest.mark.parametrize("depth", [1, 2, 3, 60])  # 60 layers are more than one chunk of the backward pass
@pytest.mark.parametrize("lead", [(), (7,), (2, 3)])
@pytest.mark.parametrize("activation", ["relu", "tanh"])
def test_gradients_equal_those_of_separate_layers(depth, lead, activation):
    generator = torch.Generator().manual_seed(depth)
    stack = HighwayStack(30, depth, activation, dtype=torch.float64, generator=generator)
    x = torch.randn(*lead, 30, dtype=torch.float64, generator=generator)
    cotangent = torch.randn(*lead, 30, dtype=torch.float64, generator=generator)
    recorded, gradient = _hooked_gradients(stack, x, cotangent)

    outputs, y = [], x.clone().requires_grad_()
    first = y
    for layer in stack.to_layers():
        y = layer(y)
        y.retain_grad()
        outputs.append(y)
    y.backward(cotangent)

    assert len(recorded) == 1
    # Float64, another order of additions over at most 60 layers.
    assert_close(recorded[0], torch.stack([output.grad for output in outputs]), rtol=1e-10, atol=1e-14)
    assert_close(gradient, first.grad, rtol=1e-10, atol=1e-14)


def test_the_gradient_hook_changes_no_bit_of_the_parameter_gradients():
    generator = torch.Generator().manual_seed(0)
    stack = HighwayStack(20, 40, generator=generator)
    x, cotangent = torch.randn(9, 20, generator=generator), torch.randn(9, 20, generator=generator)
    stack(x).backward(cotangent)
    unheard = [p.grad.clone() for p in stack.parameters()]
    stack.zero_grad()
    _hooked_gradients(stack, x, cotangent)
    assert all(torch.equal(p.grad, before) for p, before in zip(stack.parameters(), unheard, strict=True))
