"""Forward and backward passes on tensors without numbers: nothing is read back to decide what to do next.

What works there can be recorded into a CUDA graph, and never makes a device wait for the host.
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
def test_a_training_step_asks_for_no_number(name):
    build, shape = LAYERS[name]
    layer, x = build().to("meta"), torch.ones(shape, device="meta", requires_grad=True)
    y = layer(x)
    (y[0] if isinstance(y, tuple) else y).sum().backward()
    assert all(p.grad is not None and p.grad.is_meta and p.grad.shape == p.shape for p in layer.parameters())
    assert x.grad.shape == x.shape
    with pytest.raises((RuntimeError, NotImplementedError)):
        x.sum().item()  # what any such question would have met
