"""Recurrent highway layer, which applies the cell to whole sequences."""

import contextlib
from collections.abc import Callable, Sequence
from functools import partial

import torch
from torch import Tensor, nn
from torch.autograd import forward_ad
from torch.nn.modules.module import _has_any_global_hook
from torch.nn.utils.rnn import PackedSequence

from thruway.errors import ShapeError
from thruway.nn.checks import check_bool, check_tensor, has_forward_hooks, has_hooks
from thruway.nn.hook_points import GradientsHookPoint, LayerStates, StatesHookPoint
from thruway.nn.recurrent_autograd import recurrent_highway_states
from thruway.nn.recurrent_cell import DropoutMasks, RecurrentHighwayCell
from thruway.nn.recurrent_kernel import plain_sequence
from thruway.nn.stack_kernel import FUSED_ACTIVATIONS

__all__ = ["RecurrentHighway"]


class RecurrentHighway(nn.Module):
    """A recurrent layer whose time step consists of `depth` highway layers, used like `torch.nn.GRU`.

    Unlike in GRU, the state has no layer dimension: its shape is (batch, width).

        output, state = layer(x, state)

    Equations, weights and gates are those of `cell`, a RecurrentHighwayCell. `output` is the state after every time
    step, `state` the state after the last step of each sequence: pass it to the next call to continue the sequences.

    The maps of the input are computed by one GEMM for all time steps, H and T of a micro-step by one GEMM. Coupled
    gates and activations whose slope follows from their value (linear, relu, tanh, sigmoid, elu) have a hand-written
    backward pass. If a hook is registered on a gate or the activation of the cell, or on all modules, the layer runs
    step by step instead, as it does under autocast, torch.func, forward-mode differentiation and torch.compile. The
    results are equal up to rounding.

    A forward hook on the submodule `states` receives the LayerStates of each pass, (depth, rows, width) each: for every
    micro-step its input state (before dropout), its H and its T. The rows are the time steps one after the other,
    time · batch rows; for packed sequences they are ordered as in the PackedSequence. A forward hook on `gradients`
    receives, in the backward pass, the gradient of the loss with respect to the state after every micro-step,
    (depth, rows, width), including the paths through later time steps; it is called by the hand-written backward pass
    only. Neither hook changes the results. The first needs no extra arithmetic, and extra memory only if the layer runs
    step by step; the second needs extra memory. To read an independent carry gate, register a hook on the cell.

    In training with `dropout` each call draws one mask per sequence for the input and one for the state, and uses them
    for all time steps and micro-steps. If a long text is split into several calls, new masks are drawn in each, as in
    the paper.

    Args:
        inputs, width, depth, gate_bias, activation, carry, dropout, generator, coins: see `RecurrentHighwayCell`.
        batch_first: If True, batched sequences are (batch, time, features) instead of (time, batch, features).
    Raises:
        ConfigError: see `RecurrentHighwayCell`. With `coins`, the layer cannot be checkpointed in training with
            dropout.
        ShapeError: when called on a tensor that is neither 2- nor 3-dimensional, has a wrong number of features or a
            different dtype than the weights, or with a state of a wrong shape.
    Source:
        Zilly, Srivastava, Koutník & Schmidhuber 2017 (Recurrent Highway Networks), sec. 4.

    >>> layer = RecurrentHighway(3, 4, depth=5, generator=torch.Generator().manual_seed(0))
    >>> x = torch.ones(7, 2, 3)                           # 7 time steps of 2 sequences
    >>> output, state = layer(x)
    >>> output.shape, torch.equal(output[-1], state)
    (torch.Size([7, 2, 4]), True)
    >>> first, middle = layer(x[:3])
    >>> torch.allclose(layer(x[3:], middle)[0], output[3:])
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
        batch_first: bool = False,
        dropout: float | tuple[float, float] = 0.0,
        device: torch.device | str | None = None,
        dtype: torch.dtype | None = None,
        generator: torch.Generator | None = None,
        coins: torch.Generator | None = None,
    ) -> None:
        super().__init__()
        self.batch_first = check_bool("batch_first", batch_first)
        self.cell = RecurrentHighwayCell(
            inputs,
            width,
            depth,
            gate_bias,
            activation,
            carry,
            dropout=dropout,
            device=device,
            dtype=dtype,
            generator=generator,
            coins=coins,
        )
        self.states = StatesHookPoint()
        self.gradients = GradientsHookPoint()

    def reset_parameters(self, generator: torch.Generator | None = None) -> None:
        """Draw new weights and reset the biases."""
        self.cell.reset_parameters(generator)

    def forward(
        self, x: Tensor | PackedSequence, state: Tensor | None = None
    ) -> tuple[Tensor | PackedSequence, Tensor]:
        """Run whole sequences and return (output, state).

        Args:
            x: (time, batch, inputs), (batch, time, inputs) with `batch_first`, (time, inputs) for a single sequence,
                or a PackedSequence of sequences of different lengths.
            state: initial state, (batch, width), or (width,) for a single sequence. If None, zeros.
        Returns:
            The output, packed or shaped as x, with `width` features; and the state, (batch, width) or (width,), after
            the last step of each sequence, in the order in which packed sequences were packed.
        """
        if isinstance(x, PackedSequence):
            return self._packed(x, state)
        check_tensor("RecurrentHighway", x)
        if x.ndim not in (2, 3) or x.shape[-1] != self.cell.inputs:
            order = "batch, time" if self.batch_first else "time, batch"
            raise ShapeError(
                f"RecurrentHighway takes ({order}, {self.cell.inputs}), (time, {self.cell.inputs}) or a "
                f"PackedSequence, got {tuple(x.shape)}. For a single time step call layer.cell(x, state)."
            )
        batch = x.shape[0] if self.batch_first else x.shape[1]
        if x.ndim == 2:
            begin = self.cell.accept_state(state, ()).unsqueeze(0)
            output, end = self._run(x, begin, self.cell.draw_masks(1), (1,) * len(x))
            return output, end.squeeze(0)
        rows = x.transpose(0, 1) if self.batch_first else x
        begin, masks = self.cell.accept_state(state, (batch,)), self.cell.draw_masks(batch)
        output, end = self._run(rows.reshape(-1, self.cell.inputs), begin, masks, (batch,) * len(rows))
        output = output.view(*rows.shape[:2], self.cell.width)
        return output.transpose(0, 1) if self.batch_first else output, end

    def extra_repr(self) -> str:
        return f"batch_first={self.batch_first}"

    def _packed(self, x: PackedSequence, state: Tensor | None) -> tuple[PackedSequence, Tensor]:
        data, batch_sizes, by_length, as_given = x
        if data.ndim != 2 or data.shape[-1] != self.cell.inputs:
            raise ShapeError(
                f"RecurrentHighway takes packed sequences of {self.cell.inputs} features, got {tuple(data.shape[1:])}. "
                "Pack sequences of (time, features), or build the layer with that many inputs."
            )
        sizes = tuple(batch_sizes.tolist())
        begin, masks = self.cell.accept_state(state, (sizes[0],)), self.cell.draw_masks(sizes[0])
        if by_length is not None:
            begin = begin[by_length]
            masks = DropoutMasks(*(None if mask is None else mask[by_length] for mask in masks))
        output, end = self._run(data, begin, masks, sizes)
        return PackedSequence(output, batch_sizes, by_length, as_given), end if as_given is None else end[as_given]

    def _run(self, x: Tensor, state: Tensor, masks: DropoutMasks, sizes: Sequence[int]) -> tuple[Tensor, Tensor]:
        """Return (output, final state of each sequence) of packed rows, longest sequence first."""
        if not sizes:
            return state[:0], state.clone()
        if has_forward_hooks(self.states):
            # Function modes need not see the operations in between, unless modules of the cell have hooks.
            is_quiet = not any(map(has_hooks, self.cell.modules()))
            with torch._C.DisableTorchFunction() if is_quiet else contextlib.nullcontext():
                output, states = self._run_steps(x, state, masks, sizes, keeps_states=True)
            self.states(states)
        else:
            output, _ = self._run_steps(x, state, masks, sizes, keeps_states=False)
        if sizes[0] == sizes[-1]:
            # A copy, so that writing into one of the two results does not change the other.
            return output, output[len(output) - sizes[0] :].clone()
        return output, output[_last_rows(sizes).to(output.device)]

    def _run_steps(
        self, x: Tensor, state: Tensor, masks: DropoutMasks, sizes: Sequence[int], *, keeps_states: bool
    ) -> tuple[Tensor, LayerStates | None]:
        """Return the state after each time step and the states of every micro-step, packed."""
        cell = self.cell
        z = cell.project(x, None if masks.input is None else torch.cat([masks.input[:size] for size in sizes]))
        if self._is_for_the_kernel(z, state):
            on_gradients = self.gradients if has_forward_hooks(self.gradients) else None
            given = z, state, cell.weight, cell.bias, masks.state, sizes, str(cell.activation_name)
            output, S, Z = recurrent_highway_states(*given, on_gradients)
            return output, LayerStates(S, *Z.chunk(2, dim=-1)) if keeps_states else None
        seen: list[tuple[Tensor, Tensor, Tensor]] | None = [] if keeps_states else None
        output = plain_sequence(z, state, masks.state, sizes, partial(cell.transition, seen=seen))
        return output, None if seen is None else _by_micro_step(seen, cell.depth)

    def _is_for_the_kernel(self, z: Tensor, state: Tensor) -> bool:
        cell = self.cell
        is_plain = (
            cell.carry == "independent"
            or cell.activation_name not in FUSED_ACTIVATIONS
            or not z.dtype == state.dtype == cell.weight.dtype  # autocast changed the dtype of the GEMM
            or _has_any_global_hook()  # type: ignore[no-untyped-call]
            or any(map(has_hooks, cell.modules()))
            or torch.compiler.is_compiling()
            or torch._C._is_tracing()
            or torch._C._are_functorch_transforms_active()
            or forward_ad._current_level >= 0
        )
        return not is_plain


def _by_micro_step(seen: Sequence[tuple[Tensor, Tensor, Tensor]], depth: int) -> LayerStates:
    """Stack the recorded micro-steps as (depth, rows, width)."""
    with torch._C.DisableTorchFunction():
        rows = ([torch.cat(values[step::depth]) for step in range(depth)] for values in zip(*seen, strict=True))
        return LayerStates(*map(torch.stack, rows))


def _last_rows(sizes: Sequence[int]) -> Tensor:
    """Return the row of the last step of each sequence in the packed rows.

    >>> _last_rows([3, 1])   # rows 0 to 2 are the first step, row 3 is the second step of the longest
    tensor([3, 1, 2])
    """
    places, starts = torch.arange(sizes[0]), torch.tensor([0, *sizes]).cumsum(0)
    lengths = (torch.tensor(sizes).unsqueeze(1) > places).sum(0)
    return starts[lengths - 1] + places
