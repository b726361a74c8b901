"""Fused stack of highway layers: one module with stacked parameters and a hand-written backward pass."""

from collections.abc import Iterator, Mapping
from typing import Literal

import torch
from torch import Tensor, nn

from thruway.activations import activation as activation_row
from thruway.activations import activation_module
from thruway.errors import ConfigError, ShapeError
from thruway.init.parts import Part
from thruway.nn.blocks import HighwayLinear
from thruway.nn.checks import check_dtype, check_size, features_error, has_forward_hooks, is_autocast
from thruway.nn.gates import draw_parts_, highway_parts, resolve_gate_bias
from thruway.nn.hook_points import GradientsHookPoint, LayerStates, StatesHookPoint
from thruway.nn.stack_autograd import highway_stack, highway_stack_states
from thruway.nn.stack_kernel import FUSED_ACTIVATIONS, plain_highway_stack

__all__ = ["HighwayStack", "LayerStates", "layered_state_dict", "stacked_state_dict"]

# From this depth on, `recompute="auto"` recomputes states to save memory: the states of a shorter stack need less
# memory than its parameters, gradients and momentum together (width 50, batch 100).
_RECOMPUTE_FROM = 200


class HighwayStack(nn.Module):
    """A fused stack of `depth` highway layers: equal to nn.Sequential(HighwayLinear...), with far fewer operations.

        y_l = y_{l-1} + T_l (H_l - y_{l-1}),    H_l = activation(W_H y_{l-1} + b_H),    T_l = sigmoid(W_T y_{l-1} + b_T)

    `weight` is (depth, 2·width, width), W_H above W_T in each layer, and `bias` (depth, 2·width): one tensor for the
    optimiser and one batched GEMM for the weight gradients. First derivatives use a hand-written backward pass.
    Higher derivatives, forward-mode differentiation, compiling, exporting, tracing, and activations whose slope does
    not follow from their value (gelu, silu, ...) use separate differentiable operations. Under autocast the layers
    run one by one too, with the carry path in the dtype of the input.

    A forward hook on the submodule `states` receives the LayerStates of each pass: x, H and T of every layer. It needs
    no extra arithmetic, but memory: a pass with a hook keeps the states of all layers regardless of `recompute`, and
    activations without a hand-written backward pass run layer by layer. A forward hook on `gradients` receives, in the
    backward pass, the gradient of the loss with respect to every layer's output, (depth, ..., width). It is called only
    if `states` has a hook too and the hand-written backward pass runs. `layer_states(x)` returns the states of one
    input directly and calls no hooks.

    Args:
        width: number of units per layer.
        depth: number of layers, at least 1.
        activation: a name from thruway.activations.ACTIVATIONS.
        gate_bias: initial bias of the gates, or "depth" for the papers' guideline (gate_bias_for_depth).
        recompute: If False, keep the states of all layers for the backward pass. If True, keep those of every
            ~sqrt(depth)-th layer and recompute the others, so that activation memory grows like sqrt(depth). "auto"
            means True from 200 layers on.
        generator: generator of the initial weights. If None, PyTorch's global generator.
    Raises:
        ConfigError: for a size below 1, an unknown activation, or a gate bias that is neither a number nor "depth".
        ShapeError: when called on an input that is not (..., width).
    Source:
        Srivastava, Greff & Schmidhuber 2015 (Training Very Deep Networks), eqs. 2-3, sec. 2.2; initial
        weights as in HighwayLinear. The stacking is ours.

    >>> stack = HighwayStack(4, depth=3, generator=torch.Generator().manual_seed(0))
    >>> layers = stack.to_layers()
    >>> x = torch.ones(2, 4)
    >>> torch.allclose(stack(x), layers(x))
    True
    """

    def __init__(
        self,
        width: int,
        depth: int,
        activation: str = "relu",
        gate_bias: float | Literal["depth"] = -2.0,
        *,
        recompute: bool | Literal["auto"] = "auto",
        device: torch.device | str | None = None,
        dtype: torch.dtype | None = None,
        generator: torch.Generator | None = None,
    ) -> None:
        super().__init__()
        self.width, self.depth = check_size("width", width), check_size("depth", depth)
        if not isinstance(activation, str):
            raise ConfigError(
                f"HighwayStack takes the name of an activation, got {activation!r}. "
                "For a callable, use nn.Sequential of HighwayLinear(width, activation=...)."
            )
        self.activation = activation_row(activation).name
        self.gate_bias = resolve_gate_bias(gate_bias, self.depth)
        if recompute not in (True, False, "auto"):
            raise ConfigError(f"recompute must be True, False or 'auto', got {recompute!r}.")
        self.recompute = recompute
        self.weight = nn.Parameter(torch.empty(self.depth, 2 * self.width, self.width, device=device, dtype=dtype))
        self.bias = nn.Parameter(torch.empty(self.depth, 2 * self.width, device=device, dtype=dtype))
        self.states = StatesHookPoint()
        self.gradients = GradientsHookPoint()
        self.reset_parameters(generator)

    def reset_parameters(self, generator: torch.Generator | None = None) -> None:
        """Draw new weights, layer by layer as nn.Sequential(HighwayLinear...) does, and reset the biases."""
        draw_parts_(self.init_parts(), generator)

    def init_parts(self) -> Iterator[Part]:
        """Yield the maps of every layer, for `initialize`."""
        for layer in range(self.depth):
            parts = highway_parts(self.weight[layer], self.bias[layer], "coupled", self.gate_bias, self.activation)
            for part in parts:
                yield part._replace(name=f"{layer}.{part.name}")

    def forward(self, x: Tensor) -> Tensor:
        self._check_features(x)
        if has_forward_hooks(self.states):
            # Function modes need not see the operations in between.
            with torch._C.DisableTorchFunction():
                y, states = self._run_keeping_states(x)
            self.states(states)
            return y
        if is_autocast(x):
            return self._run_one_by_one(x)
        features, weight, bias = self._feature_major(x), self.weight.unsqueeze(0), self.bias.unsqueeze(0)
        if self.activation in FUSED_ACTIVATIONS:
            y = highway_stack(features, weight, bias, self.activation, self._segment())
        else:
            y = plain_highway_stack(features, weight, bias, activation_row(self.activation).function)
        return self._as_given(y.squeeze(0), x)

    def layer_states(self, x: Tensor) -> LayerStates:
        """Return the states of every layer for this input, (depth, ..., width) each, without gradients or hook calls.

        Raises:
            ShapeError: if x is not (..., width).

        >>> states = HighwayStack(4, depth=3, gate_bias=-2.0).layer_states(torch.zeros(5, 4))
        >>> states.t.shape, round(states.t[0].mean().item(), 3)   # sigmoid(-2), since x = 0
        (torch.Size([3, 5, 4]), 0.119)
        """
        self._check_features(x)
        with torch.no_grad():
            return self._run_keeping_states(x)[1]

    def to_layers(self) -> nn.Sequential:
        """Return an equal nn.Sequential of HighwayLinear, with copies of the parameters."""
        unused = torch.Generator()  # its draws are overwritten; the global generator is not advanced
        layers = nn.Sequential(
            *(
                HighwayLinear(self.width, self.activation, self.gate_bias, dtype=self.weight.dtype, generator=unused)
                for _ in range(self.depth)
            )
        ).to(self.weight.device)
        layers.load_state_dict(layered_state_dict(self.state_dict()))
        return layers

    @classmethod
    def from_layers(cls, layers: nn.Sequential) -> "HighwayStack":
        """Return the stack of these HighwayLinear layers, with copies of their parameters.

        Raises:
            ConfigError: if a layer is not a coupled HighwayLinear, or widths or activations differ.
        """
        first = next(iter(layers), None)
        for index, layer in enumerate(layers):
            if not isinstance(layer, HighwayLinear) or layer.carry != "coupled" or layer.activation_name is None:
                raise ConfigError(
                    f"layer {index} is {layer}; a stack needs coupled HighwayLinear layers with a named activation."
                )
            if isinstance(first, HighwayLinear) and (layer.width, layer.activation_name) != (
                first.width,
                first.activation_name,
            ):
                raise ConfigError(
                    f"all layers of a stack must be equal: layer 0 has width {first.width} and "
                    f"{first.activation_name}, layer {index} has width {layer.width} and {layer.activation_name}."
                )
        if not isinstance(first, HighwayLinear):
            raise ConfigError("a stack needs at least one layer, got an empty Sequential.")
        name = str(first.activation_name)
        weight = first.weight
        unused = torch.Generator()
        stack = cls(first.width, len(layers), name, first.gate_bias, dtype=weight.dtype, generator=unused).to(
            weight.device
        )
        stack.load_state_dict(stacked_state_dict(layers.state_dict()))
        return stack

    def extra_repr(self) -> str:
        return (
            f"{self.width}, depth={self.depth}, activation={self.activation!r}, gate_bias={self.gate_bias}, "
            f"recompute={self.recompute!r}"
        )

    def _segment(self) -> int | None:
        """Number of layers recomputed at a time, ~sqrt(depth); None to keep all states."""
        wanted = self.depth >= _RECOMPUTE_FROM if self.recompute == "auto" else self.recompute
        wanted = wanted or not torch.is_grad_enabled()  # no backward pass will need the states
        return max(1, round(self.depth**0.5)) if wanted else None

    def _feature_major(self, x: Tensor) -> Tensor:
        """Reshape (..., width) to (1 member, width, batch)."""
        if x.device != self.weight.device:
            raise ShapeError(
                f"HighwayStack is on {self.weight.device}, its input on {x.device}. Move one of them with .to()."
            )
        return x.reshape(-1, self.width).mT.contiguous().unsqueeze(0)

    def _as_given(self, states: Tensor, x: Tensor) -> Tensor:
        """Reshape (..., width, batch) to the shape of the input x."""
        return states.mT.reshape(*states.shape[:-2], *x.shape)

    def _run_keeping_states(self, x: Tensor) -> tuple[Tensor, LayerStates]:
        """Return y and the states of every layer."""
        chooses = is_autocast(x)
        features = x if chooses else self._feature_major(x)
        if chooses or self.activation not in FUSED_ACTIVATIONS:
            seen: list[LayerStates] = []
            y = self._run_one_by_one(x, seen)
            return y, LayerStates(*(torch.stack(states) for states in zip(*seen, strict=True)))
        on_gradients = (
            (lambda G: self.gradients(self._as_given(G.squeeze(1), x))) if has_forward_hooks(self.gradients) else None
        )
        weight, bias = self.weight.unsqueeze(0), self.bias.unsqueeze(0)
        y, X, A = highway_stack_states(features, weight, bias, self.activation, on_gradients)
        H, T = A.chunk(2, dim=-2)
        return self._as_given(y.squeeze(0), x), LayerStates(*(self._as_given(s.squeeze(1), x) for s in (X, H, T)))

    def _run_one_by_one(self, x: Tensor, seen: list[LayerStates] | None = None) -> Tensor:
        """Run layer by layer, as nn.Sequential(HighwayLinear...) does; append the states to `seen` if given."""
        act = activation_module(self.activation)
        for weight, bias in zip(self.weight, self.bias, strict=True):
            h, t = torch.nn.functional.linear(x, weight, bias).chunk(2, dim=-1)
            h, t = act(h).to(x.dtype), torch.sigmoid(t).to(x.dtype)
            if seen is not None:
                seen.append(LayerStates(x.detach(), h.detach(), t.detach()))
            x = torch.lerp(x, h, t)
        return x

    def _check_features(self, x: Tensor) -> None:
        check_dtype("HighwayStack", x, self.weight)
        if x.shape[-1:] != (self.width,):
            raise features_error(
                "HighwayStack", x, self.width, "To change the width, put a Linear or Resize before it."
            )


def stacked_state_dict(layered: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Convert the state dict of nn.Sequential(HighwayLinear...) to that of a HighwayStack.

    Raises:
        ShapeError: if a layer is missing or has another shape.

    >>> layers = nn.Sequential(HighwayLinear(2), HighwayLinear(2))
    >>> {name: tuple(value.shape) for name, value in stacked_state_dict(layers.state_dict()).items()}
    {'weight': (2, 4, 2), 'bias': (2, 4)}
    """
    depth = sum(name.endswith(".weight") for name in layered)
    wanted = {f"{layer}.{kind}" for layer in range(depth) for kind in ("weight", "bias")}
    if depth == 0 or wanted != set(layered):
        raise ShapeError(f"expected the keys 0.weight, 0.bias, 1.weight, ... of highway layers, got {sorted(layered)}.")
    stacks = {kind: [layered[f"{layer}.{kind}"] for layer in range(depth)] for kind in ("weight", "bias")}
    for kind, tensors in stacks.items():
        if len({tuple(t.shape) for t in tensors}) > 1:
            raise ShapeError(
                f"all layers of a stack must have one width, got {kind} of shapes {[tuple(t.shape) for t in tensors]}."
            )
    return {kind: torch.stack(tensors) for kind, tensors in stacks.items()}


def layered_state_dict(stacked: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Convert the state dict of a HighwayStack to that of nn.Sequential(HighwayLinear...).

    >>> sorted(layered_state_dict(HighwayStack(2, depth=2).state_dict()))
    ['0.bias', '0.weight', '1.bias', '1.weight']
    """
    return {
        f"{layer}.{kind}": value for kind in ("weight", "bias") for layer, value in enumerate(stacked[kind].unbind(0))
    }
