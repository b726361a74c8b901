"""Fully connected networks of any depth, with plain, residual or highway blocks, for comparisons as in the papers.

BLOCKS lists the kinds of layer. To add one, write a function and an entry.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor, nn

from thruway.errors import ConfigError, ShapeError, unknown_name
from thruway.init.parts import Part
from thruway.nn import HighwayLinear, HighwayStack, Plain, Residual
from thruway.nn.checks import check_size
from thruway.nn.gates import draw_parts_, resolve_gate_bias

__all__ = ["BLOCKS", "MLP", "BlockSpec", "mlp", "paired_width"]


@dataclass(frozen=True)
class BlockSpec:
    """Arguments of the blocks of a network."""

    width: int
    activation: str | Callable[[Tensor], Tensor] = "relu"
    gate_bias: float = -2.0
    carry: str = "coupled"
    residual_scale: float = 1.0
    device: torch.device | str | None = None
    dtype: torch.dtype | None = None
    generator: torch.Generator | None = None


def _plain(spec: BlockSpec) -> nn.Module:
    """y = act(W x + b)"""
    return Plain(
        spec.width, spec.width, spec.activation, device=spec.device, dtype=spec.dtype, generator=spec.generator
    )


def _residual(spec: BlockSpec) -> nn.Module:
    """y = x + s·act(W x + b)"""
    return Residual(_plain(spec), scale=spec.residual_scale)


def _highway(spec: BlockSpec) -> nn.Module:
    """y = act(W x + b)·T(x) + x·(1 - T(x))"""
    return HighwayLinear(
        spec.width,
        spec.activation,
        spec.gate_bias,
        spec.carry,
        device=spec.device,
        dtype=spec.dtype,
        generator=spec.generator,
    )


BLOCKS: dict[str, Callable[[BlockSpec], nn.Module]] = {
    "plain": _plain,
    "residual": _residual,
    "highway": _highway,
}


class MLP(nn.Module):
    """A plain first layer, blocks of one width, and a linear head: logits = head(blocks(stem(x))).

    Args:
        stem: module from (batch, inputs) to (batch, width).
        blocks: module from (batch, width) to (batch, width).
        head: module from (batch, width) to (batch, classes), without a softmax, which the loss applies.
    Raises:
        ShapeError: if the network is called on an input without a batch dimension.

    >>> net = MLP(nn.Linear(12, 3), nn.Sequential(), nn.Linear(3, 2))
    >>> net(torch.zeros(5, 3, 4)).shape
    torch.Size([5, 2])
    """

    def __init__(self, stem: nn.Module, blocks: nn.Module, head: nn.Module) -> None:
        super().__init__()
        self.stem = stem
        self.blocks = blocks
        self.head = head

    def forward(self, x: Tensor) -> Tensor:
        if x.dim() < 2:
            raise ShapeError(
                f"MLP takes batches, (batch, ...), got an input of shape {tuple(x.shape)}. "
                "Add a batch dimension to a single sample: net(x.unsqueeze(0))."
            )
        logits: Tensor = self.head(self.blocks(self.stem(x.flatten(1))))
        return logits


def mlp(
    block: str,
    depth: int,
    width: int,
    inputs: int,
    classes: int,
    activation: str | Callable[[Tensor], Tensor] = "relu",
    gate_bias: float | Literal["depth"] = -2.0,
    *,
    carry: str = "coupled",
    residual_scale: float | Literal["depth"] = "depth",
    fused: bool = False,
    device: torch.device | str | None = None,
    dtype: torch.dtype | None = None,
    generator: torch.Generator | None = None,
) -> MLP:
    """Build a fully connected network of plain, residual or highway layers.

    `depth` counts hidden layers as the papers do: the first one, `stem`, is always plain and maps the input to
    `width`; `blocks` are the other depth - 1; the linear `head` is not counted. The input, (batch, ...) with `inputs`
    numbers per sample, is flattened. The network returns logits, (batch, classes).

    Args:
        block: a key of BLOCKS: "plain", "residual" (y = x + s·act(Wx + b)) or "highway".
        depth: number of hidden layers, at least 1.
        width: number of units of each hidden layer. `paired_width` returns the width of a plain network with as many
            parameters.
        inputs: number of values per sample, such as 64 for the 8x8 digits.
        classes: number of logits.
        activation: a name from thruway.activations.ACTIVATIONS, or with fused=False any callable on tensors.
        gate_bias: initial bias of the transform gates; "depth": gate_bias_for_depth(depth). Highway only.
        carry: "coupled" or "independent". Highway only.
        residual_scale: s, the factor of each residual branch; "depth" for 1/sqrt(depth), with which the initial second
            moment grows by less than a factor of e at any depth for branches of mean 0 (tanh). The means of relu
            branches add up, and the second moment grows by about exp(2·sqrt(depth / π)): 5e4 at depth 100, compared
            with 1e46 for s = 1. Residual only.
        fused: If True, build the highway blocks as one HighwayStack: the initial weights are the same, and training is
            faster.
        generator: generator of all initial weights. If None, PyTorch's global generator.
    Raises:
        ConfigError: if the block is unknown, a size is below 1, or fused=True is combined with blocks other than
            coupled highway ones.
        ShapeError: if the network is called on samples that do not have `inputs` values, or without a batch dimension.
    Source:
        Srivastava, Greff & Schmidhuber 2015 (Highway Networks), sec. 3; (Training Very Deep Networks), sec. 3.1;
        the residual scale follows De & Smith 2020 and Hayou et al. 2021.

    >>> net = mlp("highway", depth=10, width=50, inputs=64, classes=10, gate_bias="depth")
    >>> len(net.blocks), net.blocks[0].gate_bias, net(torch.zeros(2, 8, 8)).shape
    (9, -1.0, torch.Size([2, 10]))
    """
    if not isinstance(block, str) or block not in BLOCKS:
        raise ConfigError(unknown_name("block", block, BLOCKS))
    depth = check_size("depth", depth)
    if isinstance(residual_scale, str) and residual_scale != "depth":
        raise ConfigError(f"residual_scale must be a number or 'depth', got {residual_scale!r}.")
    scale = depth**-0.5 if isinstance(residual_scale, str) else residual_scale
    bias = resolve_gate_bias(gate_bias, depth)
    spec = BlockSpec(width, activation, bias, carry, scale, device, dtype, generator)
    # One random stream from the input upwards: a fused network has the same initial weights as separate layers.
    stem = Plain(inputs, width, activation, device=device, dtype=dtype, generator=generator)
    if fused:
        blocks = _fused(block, depth - 1, spec)
    else:
        blocks = nn.Sequential(*(BLOCKS[block](spec) for _ in range(depth - 1)))
    return MLP(stem, blocks, _head(spec, classes))


def paired_width(block: str, highway_width: int) -> int:
    """Return the width at which the number of parameters of a layer of `block` is closest to that of a highway layer.

        w(w + 1) ≈ 2·h(h + 1):     71·72 = 5112 against 2·50·51 = 5100

    Args:
        block: a key of BLOCKS.
        highway_width: h, number of units of the coupled highway layer.
    Returns:
        The width w; h itself for "highway".
    Raises:
        ConfigError: if the block is unknown or a width is below 1.
    Source:
        Srivastava, Greff & Schmidhuber 2015 (Highway Networks), sec. 3 (71 and 50).

    >>> paired_width("plain", 50), paired_width("residual", 50), paired_width("highway", 50)
    (71, 71, 50)
    """
    if not isinstance(block, str) or block not in BLOCKS:
        raise ConfigError(unknown_name("block", block, BLOCKS))
    highway = check_size("highway_width", highway_width)
    if block == "highway":
        return highway
    wanted = 2 * highway * (highway + 1)
    return min(range(highway, 2 * highway + 1), key=lambda width: abs(width * (width + 1) - wanted))


def _fused(block: str, layers: int, spec: BlockSpec) -> nn.Module:
    if block != "highway" or spec.carry != "coupled":
        raise ConfigError(
            f"fused=True needs coupled highway blocks, got block={block!r}, carry={spec.carry!r}. Pass fused=False."
        )
    if not isinstance(spec.activation, str):
        raise ConfigError(f"fused=True needs the name of an activation, got {spec.activation!r}. Pass fused=False.")
    if layers == 0:
        return nn.Sequential()
    return HighwayStack(
        spec.width,
        layers,
        spec.activation,
        spec.gate_bias,
        device=spec.device,
        dtype=spec.dtype,
        generator=spec.generator,
    )


def _head(spec: BlockSpec, classes: int) -> nn.Linear:
    # nn.Linear draws from the global generator when it is built, except on the meta device.
    head = nn.Linear(spec.width, check_size("classes", classes), device="meta", dtype=spec.dtype)
    head = head.to_empty(device=torch.get_default_device() if spec.device is None else spec.device)
    draw_parts_([Part("head", head.weight, head.bias)], spec.generator)
    return head
