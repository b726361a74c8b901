"""Plain, residual and highway layers, side by side as the papers compare them.

    plain      y = H(x)
    residual   y = x + F(x)
    highway    y = H(x)·T(x) + x·(1 - T(x))

H and F are the transforms, T is the gate.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from thruway.activations import activation_module, activation_name
from thruway.errors import ShapeError
from thruway.init.parts import Part
from thruway.nn.checks import (
    CARRIES,
    check_carry,
    check_dtype,
    check_gate_bias,
    check_generator,
    check_not_inplace,
    check_not_recomputing,
    check_probability,
    check_scale,
    check_size,
    features_error,
)
from thruway.nn.gates import CarryGate, TransformGate, draw_parts_, highway_parts, mix, split_maps

__all__ = ["HighwayLinear", "Learnt", "Plain", "Residual"]


class Plain(nn.Module):
    """A fully connected layer without a skip connection: y = activation(W x + b).

    It equals the transform H of a highway layer and is initialised in the same way, so that a comparison differs
    only in the carry. `weight` is (outputs, inputs); a forward hook on `activation` receives y.

    Args:
        inputs: number of features of x, (..., inputs).
        outputs: number of features of y, (..., outputs). Default: `inputs`.
        activation: a name from thruway.activations.ACTIVATIONS, a module, or any callable on tensors.
        generator: generator of the initial weights. If None, PyTorch's global generator.
    Raises:
        ConfigError: for a size below 1 or an unknown activation.
        ShapeError: when called on an input that is not (..., inputs).
    Source:
        Srivastava, Greff & Schmidhuber 2015 (Training Very Deep Networks), eq. 1;
        weights after Glorot & Bengio 2010, eq. 16, times the activation's gain.

    >>> layer = Plain(3, 2, "tanh")
    >>> _ = layer.weight.data.fill_(1.0)
    >>> layer(torch.zeros(4, 3)).abs().max().item()
    0.0
    """

    def __init__(
        self,
        inputs: int,
        outputs: int | None = None,
        activation: str | Callable[[Tensor], Tensor] = "relu",
        *,
        device: torch.device | str | None = None,
        dtype: torch.dtype | None = None,
        generator: torch.Generator | None = None,
    ) -> None:
        super().__init__()
        self.inputs = check_size("inputs", inputs)
        self.outputs = self.inputs if outputs is None else check_size("outputs", outputs)
        self.activation = activation_module(activation)
        self.activation_name = activation_name(activation)
        self.weight = nn.Parameter(torch.empty(self.outputs, self.inputs, device=device, dtype=dtype))
        self.bias = nn.Parameter(torch.empty(self.outputs, device=device, dtype=dtype))
        self.reset_parameters(generator)

    def reset_parameters(self, generator: torch.Generator | None = None) -> None:
        """Draw new weights and reset the bias to 0."""
        draw_parts_(self.init_parts(), generator)

    def init_parts(self) -> Iterator[Part]:
        """Yield the map of the layer, for `initialize`."""
        yield Part("transform", self.weight.detach(), self.bias.detach(), 0.0, self.activation_name)

    def forward(self, x: Tensor) -> Tensor:
        if x.shape[-1:] != (self.inputs,):
            raise features_error("Plain", x, self.inputs, "Build it with the width of its input.")
        y: Tensor = self.activation(F.linear(x, self.weight, self.bias))
        return y

    def extra_repr(self) -> str:
        return f"{self.inputs}, {self.outputs}"


@dataclass(frozen=True)
class Learnt:
    """A branch scale that is a parameter, initialised at `start`.

    With 0 the block starts as its shortcut (ReZero, SkipInit).

    >>> Residual(nn.Linear(2, 2), scale=Learnt(0.0)).scale
    Parameter containing:
    tensor(0., requires_grad=True)
    """

    start: float = 0.0


class Residual(nn.Module):
    """A residual block: the sum of a shortcut and a branch.

        y = after(shortcut(x) + s·f(x))

    Post-activation (He et al. 2015) is `after="relu"`. Pre-activation (He et al. 2016) has no `after`
    and a branch that begins with norm and activation.

    Stochastic depth: in training each call skips the branch with probability `drop`, for the whole batch; in
    evaluation the branch is always used and multiplied by 1 - drop. The random number is drawn on the CPU, so with
    drop > 0 `torch.compile` breaks the graph there in training, and `torch.vmap` needs randomness="same".
    `survival_probabilities` returns the published probabilities for a whole stack.

    A call can set the factor of the branch: `block(x, share=0)` skips it, regardless of `drop` and of the mode, and
    `share=1` uses it in full. No random number is drawn then.

    Args:
        branch: f, any module whose output has the shape of the output of the shortcut.
        shortcut: module whose output the branch is added to. If None, x itself. Pass `Resize` if the size changes.
        scale: s, a number or `Learnt(start)` (a 0-d parameter named `scale`).
        drop: probability of skipping the branch, at least 0 and below 1.
        after: activation of the sum: a name, a module, or any callable. If None, there is no activation.
        generator: CPU generator for stochastic depth. If None, PyTorch's global generator.
    Raises:
        ConfigError: if scale is not a finite number, drop is out of range, after is unknown, or the branch begins
            with an in-place layer, such as nn.ReLU(inplace=True); if torch.utils.checkpoint recomputes a block with
            its own generator.
        ShapeError: if the outputs of branch and shortcut differ in shape when the block is called.
    Source:
        He et al. 2015 and 2016; Huang et al. 2016, sec. 3 (stochastic depth); Bachlechner et al. 2020
        (ReZero) and De & Smith 2020 (SkipInit) for the learned scale.

    >>> block = Residual(nn.Identity(), scale=0.5, drop=0.2).eval()
    >>> block(torch.ones(2))          # 1 + 0.8 · 0.5 · 1
    tensor([1.4000, 1.4000])
    >>> block(torch.ones(2), share=0)
    tensor([1., 1.])
    """

    def __init__(
        self,
        branch: nn.Module,
        shortcut: nn.Module | None = None,
        scale: float | Learnt = 1.0,
        drop: float = 0.0,
        after: str | Callable[[Tensor], Tensor] | None = None,
        *,
        generator: torch.Generator | None = None,
    ) -> None:
        super().__init__()
        self.branch = check_not_inplace("branch", branch)
        self.shortcut = nn.Identity() if shortcut is None else shortcut
        self.after = nn.Identity() if after is None else activation_module(after)
        self.drop = check_probability("drop", drop)
        self.generator = generator
        self._start = check_scale(scale.start if isinstance(scale, Learnt) else scale)
        # 0-d, so that the product keeps the dtype of the branch.
        self.scale: float | nn.Parameter = (
            nn.Parameter(torch.tensor(self._start)) if isinstance(scale, Learnt) else self._start
        )

    def init_parts(self) -> Iterator[Part]:
        """Yield the learned scale, which starts at `start` for every scheme."""
        if isinstance(self.scale, nn.Parameter):
            yield Part("scale", self.scale.detach(), None, weight_value=self._start)

    def forward(self, x: Tensor, share: float | None = None) -> Tensor:
        counts = self._share() if share is None else share
        if counts == 0:
            return self.bypass(x)
        y: Tensor = self.after(self._sum(self.shortcut(x), self.branch(x), counts))
        return y

    def bypass(self, x: Tensor) -> Tensor:
        """Return the output without the branch: after(shortcut(x))."""
        y: Tensor = self.after(self.shortcut(x))
        return y

    def extra_repr(self) -> str:
        scale = f"Learnt({self._start})" if isinstance(self.scale, nn.Parameter) else str(self.scale)
        return f"scale={scale}, drop={self.drop}"

    def _share(self) -> float:
        if not self.training or self.drop == 0.0:
            return 1.0 - self.drop
        if self.generator is not None:
            check_not_recomputing("Residual", "generator")
        coin = torch.rand((), device="cpu", dtype=torch.float64, generator=self.generator)
        return 0.0 if coin.item() < self.drop else 1.0

    def _sum(self, shortcut: Tensor, branch: Tensor, share: float) -> Tensor:
        if branch.shape != shortcut.shape:
            raise ShapeError(
                "branch and shortcut of a Residual must have the same shape: the branch returned "
                f"{tuple(branch.shape)}, the shortcut {tuple(shortcut.shape)}. If the branch changes the size, pass "
                "shortcut=Resize(inputs, outputs, stride, dims)."
            )
        # The branch comes first: the sum has the memory format of its first term, and a padded shortcut has lost
        # the channels-last format that convolutions keep.
        if isinstance(self.scale, float) and self.scale * share == 1.0:
            return branch + shortcut
        return self.scale * share * branch + shortcut


class HighwayLinear(nn.Module):
    """A fully connected layer that learns for each unit how much of its input to transform and how much to carry.

        y = H(x)·T(x) + x·(1 - T(x)),     H = activation(W_H x + b_H),  T = sigmoid(W_T x + b_T)

    `weight` (2·width, width) contains W_H, then W_T, and `bias` likewise; with carry="independent" it has a third
    map for the carry gate, and y = H·T + x·C. A forward hook on `activation` receives H, on `transform_gate` T,
    on `carry_gate` C.

    The weights of each map are drawn with Glorot's normalised initialisation, with the fans of that map,
    times the gain of the activation (1 for gates and for unnamed callables). For relu that is He's variance,
    2 / width. Biases start at 0, that of the gate at `gate_bias`.

    Args:
        width: number of features of the input and of the output.
        activation: a name from thruway.activations.ACTIVATIONS, a module, or any callable on tensors.
        gate_bias: initial value of b_T. Default: -2. Below 0, the layer initially carries its input; at -inf it always
            does. An independent carry gate starts at -gate_bias.
        carry: "coupled" (C = 1 - T) or "independent" (C has its own weights).
        generator: generator of the initial weights. If None, PyTorch's global generator.
    Raises:
        ConfigError: for a width below 1, an unknown activation or carry, or a gate bias that is not a number.
        ShapeError: when called on an input that is not (..., width), or of a different dtype than the weights.
    Source:
        Srivastava, Greff & Schmidhuber 2015 (Training Very Deep Networks), eqs. 2-3, sec. 2.2;
        weights after Glorot & Bengio 2010, eq. 16, as in sec. 3.1 of the former.

    >>> layer = HighwayLinear(4, gate_bias=float("-inf"), generator=torch.Generator().manual_seed(0))
    >>> x = torch.ones(3, 4)
    >>> torch.equal(layer(x), x)
    True
    """

    def __init__(
        self,
        width: int,
        activation: str | Callable[[Tensor], Tensor] = "relu",
        gate_bias: float = -2.0,
        carry: str = "coupled",
        *,
        device: torch.device | str | None = None,
        dtype: torch.dtype | None = None,
        generator: torch.Generator | None = None,
    ) -> None:
        super().__init__()
        self.width = check_size("width", width)
        self.gate_bias = check_gate_bias(gate_bias)
        self.carry = check_carry(carry)
        self.activation = activation_module(activation)
        self.activation_name = activation_name(activation)
        self.transform_gate = TransformGate()
        self.carry_gate = CarryGate() if carry == "independent" else None
        rows = len(CARRIES[carry]) * self.width
        self.weight = nn.Parameter(torch.empty(rows, self.width, device=device, dtype=dtype))
        self.bias = nn.Parameter(torch.empty(rows, device=device, dtype=dtype))
        self.reset_parameters(generator)

    def reset_parameters(self, generator: torch.Generator | None = None) -> None:
        """Draw new weights and reset the biases."""
        draw_parts_(self.init_parts(), check_generator("generator", generator))

    def init_parts(self) -> Iterator[Part]:
        """Yield the maps that share the weight, for `initialize`."""
        return highway_parts(self.weight, self.bias, self.carry, self.gate_bias, self.activation_name)

    def forward(self, x: Tensor) -> Tensor:
        check_dtype("HighwayLinear", x, self.weight)
        if x.shape[-1:] != (self.width,):
            raise features_error(
                "HighwayLinear", x, self.width, "To change the width, put a Plain or Resize layer before it."
            )
        h, t, *c = split_maps(F.linear(x, self.weight, self.bias), len(CARRIES[self.carry]), dim=-1)
        carried = self.carry_gate(c[0]) if self.carry_gate is not None else None
        return mix(x, self.activation(h), self.transform_gate(t), carried)

    def extra_repr(self) -> str:
        return f"{self.width}, gate_bias={self.gate_bias}, carry={self.carry!r}"
