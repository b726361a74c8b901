"""Forward and backward passes on fake tensors without data: no value is read back to the host.

So they can be captured in a CUDA graph, and the device never waits for the host.
"""

import pytest
import torch

from thruway.nn import HighwayConv2d, HighwayLinear, HighwayStack, RecurrentHighway

LAYERS = {
    "linear": (lambda: HighwayLinear(4), (3, 4)),
    "conv": (lambda: HighwayConv2d(4, 3), (2, 4, 5, 5)),
    "stack": (lambda: HighwayStack(4, 6), (3, 4)),
    "stack, recomputed": (lambda: HighwayStack(4, 6, recompute=True), (3, 4)),
    "recurrent": (lambda: RecurrentHighway(3, 4, depth=2), (5, 2, 3)),
}


@pytest.mark.parametrize("name", LAYERS)
def test_a_training_step_does_not_synchronise(name):
    build, shape = LAYERS[name]
    layer, x = build().to("meta"), torch.ones(shape, device="meta", requires_grad=True)
    y = layer(x)
    (y[0] if isinstance(y, tuple) else y).sum().backward()
    assert all(p.grad is not None and p.grad.is_meta and p.grad.shape == p.shape for p in layer.parameters())
    assert x.grad.shape == x.shape
    with pytest.raises((RuntimeError, NotImplementedError)):
        x.sum().item()  # the error of any such read
