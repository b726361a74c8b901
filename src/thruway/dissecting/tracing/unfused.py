"""Layer-by-layer execution of fused modules, so that the calls of each layer can be recorded and changed."""

import contextlib
from collections.abc import Callable, Iterator

from torch import Tensor, nn
from torch.nn import functional as F

from thruway.activations import activation
from thruway.nn import HighwayStack, RecurrentHighway
from thruway.nn.gates import mix

__all__ = ["UNFUSED", "unfused"]


def _highway_layers(stack: HighwayStack, x: Tensor) -> Tensor:
    act = activation(stack.activation).function
    for weight, bias in zip(stack.weight.unbind(), stack.bias.unbind(), strict=True):
        h, t = F.linear(x, weight, bias).chunk(2, dim=-1)
        x = mix(x, act(h), t.sigmoid())
    return x


# class of a fused module -> the same function in single calls
UNFUSED: dict[type[nn.Module], Callable[..., Tensor]] = {HighwayStack: _highway_layers}


@contextlib.contextmanager
def unfused(model: nn.Module) -> Iterator[None]:
    """Run the modules of UNFUSED layer by layer during the block. The outputs differ by rounding errors only."""
    fused = [module for module in model.modules() if type(module) in UNFUSED and "forward" not in vars(module)]
    # A RecurrentHighway runs step by step if its cell has a hook.
    handles = [
        module.cell.register_forward_hook(_no_op) for module in model.modules() if isinstance(module, RecurrentHighway)
    ]
    try:
        for module in fused:
            _replace_forward(module)
        yield
    finally:
        for module in fused:
            vars(module).pop("forward", None)
        for handle in handles:
            handle.remove()


def _no_op(*_: object) -> None:
    """A hook that does nothing."""


def _replace_forward(module: nn.Module) -> None:
    layers = UNFUSED[type(module)]
    vars(module)["forward"] = lambda x: layers(module, x)
