"""Recurrent highway cell: one time step of several highway layers."""

from collections.abc import Callable, Iterator
from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from thruway.activations import activation_module, activation_name
from thruway.errors import ConfigError, ShapeError
from thruway.init.parts import Part
from thruway.nn.checks import (
    CARRIES,
    check_carry,
    check_dtype,
    check_gate_bias,
    check_generator,
    check_not_recomputing,
    check_probability,
    check_size,
    check_tensor,
)
from thruway.nn.gates import CarryGate, TransformGate, draw_parts_, highway_parts
from thruway.nn.recurrent_kernel import plain_transition

__all__ = ["DropoutMasks", "RecurrentHighwayCell"]


class DropoutMasks(NamedTuple):
    """Dropout masks of the input and the state, constant over the time steps of a sequence; None without dropout."""

    input: Tensor | None = None  # (batch, inputs), 0 or 1/(1 - p)
    state: Tensor | None = None  # (batch, width), 0 or 1/(1 - p)


class RecurrentHighwayCell(nn.Module):
    """A recurrent cell whose time step consists of `depth` highway layers, used like `torch.nn.GRUCell`.

        s_l = h_l·t_l + s_{l-1}·(1 - t_l),     l = 1 ... depth
        h_l = activation(W_H x·[l = 1] + R_H^l s_{l-1} + b_H^l),    t_l = sigmoid(W_T x·[l = 1] + R_T^l s_{l-1} + b_T^l)

    s_0 is the state after the previous time step; s_depth is the new state and the output. The input x enters the
    first micro-step only.

    `input_weight` (2·width, inputs) contains W_H, then W_T; `weight` (depth, 2·width, width) and `bias`
    (depth, 2·width) contain R and b of each micro-step likewise. With carry="independent" there is a third map for
    the carry gate, and s_l = h_l·t_l + s_{l-1}·c_l. A forward hook on `transform_gates[l]` receives t_{l+1}, on
    `carry_gates[l]` c_{l+1}, and on `activation` h of each micro-step in turn.

    Every map is initialised as in HighwayLinear; biases start at 0, those of the gates at `gate_bias`, in every
    micro-step.

    Dropout uses one mask per sequence for the input and one for the state that the maps read; the carried state is
    never dropped. At the beginning of a sequence, draw the masks with `masks = cell.draw_masks(n)`, and pass them at
    each step. `RecurrentHighway` does this automatically.

    Args:
        inputs: number of features of x.
        width: number of units of the state.
        depth: number of highway layers (micro-steps) per time step.
        gate_bias: initial value of b_T. The authors used -2 for words and -4 for characters.
        activation: a name from thruway.activations.ACTIVATIONS, a module, or any callable on tensors.
        carry: "coupled" (c = 1 - t) or "independent".
        dropout: probability of dropping features of the input and units of the state; one number, or one for each.
        generator: generator of the initial weights. If None, PyTorch's global generator.
        coins: generator of the dropout masks. If None, PyTorch's global generator.
    Raises:
        ConfigError: for a size below 1, an unknown activation or carry, a gate bias that is not a number, a dropout
            outside [0, 1); when called in training with dropout and without masks; if torch.utils.checkpoint
            recomputes a pass that draws masks from `coins`.
        ShapeError: when called on tensors or masks of wrong shapes, or on an input of a different dtype than the
            weights.
    Source:
        Zilly, Srivastava, Koutník & Schmidhuber 2017 (Recurrent Highway Networks), sec. 4; masks follow Gal &
        Ghahramani 2016, as in the code of Zilly et al.

    >>> cell = RecurrentHighwayCell(3, 4, depth=5, gate_bias=float("-inf"), generator=torch.Generator().manual_seed(0))
    >>> state = torch.ones(2, 4)
    >>> torch.equal(cell(torch.zeros(2, 3), state), state)   # gates that never open
    True
    """

    def __init__(
        self,
        inputs: int,
        width: int,
        depth: int,
        gate_bias: float = -2.0,
        activation: str | Callable[[Tensor], Tensor] = "tanh",
        carry: str = "coupled",
        *,
        dropout: float | tuple[float, float] = 0.0,
        device: torch.device | str | None = None,
        dtype: torch.dtype | None = None,
        generator: torch.Generator | None = None,
        coins: torch.Generator | None = None,
    ) -> None:
        super().__init__()
        self.inputs, self.width = check_size("inputs", inputs), check_size("width", width)
        self.depth = check_size("depth", depth)
        self.gate_bias = check_gate_bias(gate_bias)
        self.carry = check_carry(carry)
        self.dropout = _check_dropout(dropout)
        self.coins = check_generator("coins", coins)
        self.activation = activation_module(activation)
        self.activation_name = activation_name(activation)
        self.transform_gates = nn.ModuleList(TransformGate() for _ in range(self.depth))
        is_independent = carry == "independent"
        self.carry_gates = nn.ModuleList(CarryGate() for _ in range(self.depth)) if is_independent else None
        rows = len(CARRIES[carry]) * self.width
        self.input_weight = nn.Parameter(torch.empty(rows, self.inputs, device=device, dtype=dtype))
        self.weight = nn.Parameter(torch.empty(self.depth, rows, self.width, device=device, dtype=dtype))
        self.bias = nn.Parameter(torch.empty(self.depth, rows, device=device, dtype=dtype))
        self.reset_parameters(generator)

    def reset_parameters(self, generator: torch.Generator | None = None) -> None:
        """Draw new weights and reset the biases."""
        draw_parts_(self.init_parts(), check_generator("generator", generator))

    def init_parts(self) -> Iterator[Part]:
        """Yield the maps of the input and of every micro-step, for `initialize`."""
        about = self.carry, self.gate_bias, self.activation_name
        for part in highway_parts(self.input_weight, self.bias[0], *about):
            yield part._replace(name=f"input.{part.name}", bias=None)
        for step in range(self.depth):
            for part in highway_parts(self.weight[step], self.bias[step], *about):
                yield part._replace(name=f"{step}.{part.name}")

    def draw_masks(self, batch: int | None = None) -> DropoutMasks:
        """Draw dropout masks for `batch` sequences, or for one without a batch dimension. In evaluation mode, masks are
        None.

        >>> cell = RecurrentHighwayCell(3, 4, depth=2, dropout=(0.5, 0.0), coins=torch.Generator().manual_seed(0))
        >>> cell.draw_masks(2)
        DropoutMasks(input=tensor([[0., 2., 0.],
                [0., 0., 2.]]), state=None)
        """
        of_input, of_state = self.dropout if self.training else (0.0, 0.0)
        axes = () if batch is None else (batch,)
        return DropoutMasks(self._mask((*axes, self.inputs), of_input), self._mask((*axes, self.width), of_state))

    def forward(self, x: Tensor, state: Tensor | None = None, masks: DropoutMasks | None = None) -> Tensor:
        """Return the state after one time step.

        Args:
            x: (batch, inputs), or (inputs,).
            state: state before the step, (batch, width), or (width,). If None, zeros.
            masks: dropout masks of these sequences, from `draw_masks`.
        """
        check_tensor("RecurrentHighwayCell", x)
        if x.ndim not in (1, 2) or x.shape[-1] != self.inputs:
            raise ShapeError(
                f"RecurrentHighwayCell takes one time step, (batch, {self.inputs}) or ({self.inputs},), got "
                f"{tuple(x.shape)}. For whole sequences use RecurrentHighway."
            )
        if masks is None and self.training and any(self.dropout):
            raise ConfigError(
                f"this cell has dropout={self.dropout} and needs dropout masks in training. Draw them at the start of "
                "the sequences, masks = cell.draw_masks(batch), and pass them at every step."
            )
        masks = DropoutMasks() if masks is None else masks
        if not isinstance(masks, DropoutMasks):
            raise ConfigError(
                f"masks must be DropoutMasks, got a {type(masks).__name__}. Draw them with cell.draw_masks(batch), or "
                "pass DropoutMasks(input=..., state=...)."
            )
        self._check_masks(masks, x.shape[:-1])
        return self.transition(self.project(x, masks.input), self.accept_state(state, x.shape[:-1]), masks.state)

    def project(self, x: Tensor, mask: Tensor | None = None) -> Tensor:
        """Return W x of all maps, (..., maps·width), for any number of time steps at once.

        Raises:
            ShapeError: if x has a different dtype than the weights and autocast is off.
        """
        check_dtype("RecurrentHighwayCell", x, self.input_weight)
        return F.linear(x if mask is None else x * mask, self.input_weight)

    def transition(
        self,
        z: Tensor,
        state: Tensor,
        mask: Tensor | None = None,
        seen: list[tuple[Tensor, Tensor, Tensor]] | None = None,
    ) -> Tensor:
        """Run the micro-steps from z = `project(x)` and the state; append s, H and T of each to `seen` if given."""
        columns = (self.transform_gates,) if self.carry_gates is None else (self.transform_gates, self.carry_gates)
        gates = list(zip(*columns, strict=True))
        weights, biases = self.weight.unbind(0), self.bias.unbind(0)
        return plain_transition(z, state, weights, biases, mask, self.activation, gates, seen)

    def accept_state(self, state: Tensor | None, batch: tuple[int, ...]) -> Tensor:
        """Return the initial state: zeros for None, else `state` after a check.

        Raises:
            ShapeError: if it has another shape or dtype.
        """
        wanted = (*batch, self.width)
        if state is None:
            return self.weight.new_zeros(wanted)
        if not isinstance(state, Tensor):
            raise ShapeError(
                f"the state must be one tensor of shape {wanted}, the second of (output, state), or None for zeros; "
                f"got a {type(state).__name__}. There is no counterpart to an LSTM's (h, c)."
            )
        if state.shape != wanted or state.dtype != self.weight.dtype:
            raise ShapeError(
                f"the initial state must be {wanted} of {self.weight.dtype}, one row per sequence, got "
                f"{tuple(state.shape)} of {state.dtype}. Reshape or convert it, or pass None for zeros."
            )
        return state

    def extra_repr(self) -> str:
        return (
            f"{self.inputs}, {self.width}, depth={self.depth}, gate_bias={self.gate_bias}, carry={self.carry!r}, "
            f"dropout={self.dropout}"
        )

    def _check_masks(self, masks: DropoutMasks, batch: tuple[int, ...]) -> None:
        wanted = (*batch, self.inputs), (*batch, self.width)
        for what, mask, shape in zip(DropoutMasks._fields, masks, wanted, strict=True):
            if mask is not None and mask.shape != shape:
                raise ShapeError(
                    f"the mask of the {what} must be {shape}, one row per sequence, got {tuple(mask.shape)}. "
                    f"Draw masks for these sequences: cell.draw_masks({', '.join(map(str, batch))})."
                )

    def _mask(self, shape: tuple[int, ...], drop: float) -> Tensor | None:
        if drop == 0.0:
            return None
        if self.coins is not None:
            check_not_recomputing("RecurrentHighwayCell", "coins")
        device = self.weight.device if self.coins is None else self.coins.device
        # Drawn in float32 for weights of any dtype, so that one generator gives one mask.
        kept = torch.rand(shape, generator=self.coins, device=device, dtype=torch.float32) >= drop
        return kept.to(self.weight.device, self.weight.dtype) / (1.0 - drop)


def _check_dropout(dropout: float | tuple[float, float]) -> tuple[float, float]:
    """Return the dropout probabilities of the input and of the state."""
    pair = tuple(dropout) if isinstance(dropout, tuple | list) else (dropout, dropout)
    if len(pair) != 2:
        raise ConfigError(f"dropout must be one probability, or two (input, state), got {dropout!r}.")
    of_input, of_state = (check_probability("dropout", each) for each in pair)
    return of_input, of_state
