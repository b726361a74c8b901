"""Table of blocks for the tests of common properties. To test a new block, add its row."""

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from thruway.nn import (
    Highway,
    HighwayConv1d,
    HighwayConv2d,
    HighwayConv3d,
    HighwayLinear,
    HighwayStack,
    Learnt,
    Maxout,
    Plain,
    Residual,
    Resize,
)


def seeded(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


@dataclass(frozen=True)
class Case:
    name: str
    build: Callable[[torch.Generator | None, float], nn.Module]  # (generator, gate_bias)
    sample: tuple[int, ...]  # the shape of one sample
    is_highway: bool = False

    def block(self, seed: int = 0, gate_bias: float = -1.0) -> nn.Module:
        return self.build(seeded(seed), gate_bias).double()

    def batch(self, size: int = 3, seed: int = 1) -> Tensor:
        return torch.randn(size, *self.sample, dtype=torch.float64, generator=seeded(seed))


def _wrap(generator: torch.Generator | None, gate_bias: float, carry: bool = False) -> nn.Module:
    def layer(activation: str) -> Plain:
        return Plain(4, 4, activation, generator=generator)

    transform = nn.Sequential(layer("tanh"), layer("softsign"))
    return Highway(transform, layer("linear"), layer("linear") if carry else None, gate_bias)


def _residual_conv(generator: torch.Generator | None) -> nn.Module:
    branch = Resize(3, 4, stride=2, dims=1, how="project", generator=generator)
    return Residual(nn.Sequential(nn.Tanh(), branch), Resize(3, 4, stride=2, dims=1), Learnt(0.5), after="softsign")


# These are highway blocks too, but without submodules per layer: tests that hook one layer do not apply.
STACKS = (
    Case("stack_tanh", lambda g, b: HighwayStack(3, 3, "tanh", b, generator=g), (3,)),
    Case("stack_relu", lambda g, b: HighwayStack(3, 3, "relu", b, generator=g), (2, 3)),
    Case("stack_gelu", lambda g, b: HighwayStack(3, 3, "gelu", b, generator=g), (3,)),
    Case("stack_recomputed", lambda g, b: HighwayStack(3, 5, "tanh", b, recompute=True, generator=g), (3,)),
)
CASES = (
    Case("linear_tanh", lambda g, b: HighwayLinear(4, "tanh", b, generator=g), (4,), True),
    Case("linear_relu", lambda g, b: HighwayLinear(4, "relu", b, generator=g), (4,), True),
    Case("linear_callable", lambda g, b: HighwayLinear(3, torch.sin, b, generator=g), (2, 3), True),
    Case("linear_independent", lambda g, b: HighwayLinear(4, "tanh", b, "independent", generator=g), (4,), True),
    Case("conv1d", lambda g, b: HighwayConv1d(2, 3, "tanh", b, generator=g), (2, 5), True),
    Case(
        "conv1d_dilated_circular",
        lambda g, b: HighwayConv1d(2, 3, "tanh", b, dilation=2, padding_mode="circular", generator=g),
        (2, 5),
        True,
    ),
    Case(
        "conv2d_grouped_independent",
        lambda g, b: HighwayConv2d(4, (3, 1), "tanh", b, "independent", groups=2, generator=g),
        (4, 3, 2),
        True,
    ),
    Case("conv2d_depthwise", lambda g, b: HighwayConv2d(3, 3, "elu", b, groups=3, generator=g), (3, 2, 3), True),
    Case("conv3d", lambda g, b: HighwayConv3d(2, (1, 3, 3), "tanh", b, generator=g), (2, 1, 2, 2), True),
    Case("wrapped", _wrap, (4,), True),
    Case("wrapped_independent", lambda g, b: _wrap(g, b, carry=True), (4,), True),
    *STACKS,
    Case("plain", lambda g, b: Plain(4, 3, "tanh", generator=g), (4,)),
    Case("maxout", lambda g, b: nn.Sequential(Plain(4, 6, "linear", generator=g), Maxout(2)), (4,)),
    Case("residual", lambda g, b: Residual(Plain(4, 4, "tanh", generator=g), scale=0.5), (4,)),
    Case("residual_learnt_resized", lambda g, b: _residual_conv(g), (3, 5)),
    Case("resize_wider", lambda g, b: Resize(3, 5, stride=2, dims=2), (3, 3, 4)),
    Case("resize_narrower", lambda g, b: Resize(5, 3), (5,)),
    Case("resize_projected", lambda g, b: Resize(2, 3, how="project", generator=g), (2,)),
)
HIGHWAYS = tuple(case for case in CASES if case.is_highway)


def named(cases: tuple[Case, ...]) -> dict[str, object]:
    """The arguments of `parametrize` that show a case by its name."""
    return {"argvalues": cases, "ids": [case.name for case in cases]}


def run_with_hooks(block: nn.Module, x: Tensor) -> dict[str, Tensor]:
    """Run a highway block and return h, t and c, as received by hooks on its submodules, and its output y."""
    names = {"activation": "h", "transform": "h", "transform_gate": "t", "carry_gate": "c"}
    seen: dict[str, Tensor] = {}
    handles = [
        child.register_forward_hook(lambda _module, _inputs, output, name=names[path]: seen.update({name: output}))
        for path, child in block.named_children()
        if path in names
    ]
    try:
        seen["y"] = block(x)
    finally:
        for handle in handles:
            handle.remove()
    return seen
