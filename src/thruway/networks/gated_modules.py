"""Building blocks of gated residual modules: a gate, a gated shortcut, a blend and a constant factor."""

from collections.abc import Callable, Iterator

from torch import Tensor, nn

from thruway.activations import activation_module
from thruway.init.layers import parts_of
from thruway.init.parts import Part
from thruway.nn import TransformGate
from thruway.nn.checks import check_gate_bias
from thruway.nn.gates import mix

__all__ = ["Blend", "Gate", "GatedShortcut", "Scaled"]


class Gate(nn.Module):
    """g(x) = sigmoid(layers(x)); the bias of the last layer starts at `gate_bias`, also after `initialize`.

    >>> gate = Gate(nn.Sequential(nn.Conv2d(1, 2, 1)), gate_bias=-6.0)
    >>> gate.layers[-1].bias
    Parameter containing:
    tensor([-6., -6.], requires_grad=True)
    """

    def __init__(self, layers: nn.Sequential, gate_bias: float) -> None:
        super().__init__()
        self.layers = layers
        self.transform_gate = TransformGate()  # a hook on it receives g
        self.gate_bias = check_gate_bias(gate_bias)
        nn.init.constant_(layers[-1].get_parameter("bias"), self.gate_bias)

    def init_parts(self) -> Iterator[Part]:
        """Yield the last layer, so that `initialize` keeps its bias."""
        for part in parts_of(self.layers[-1], self.gate_bias) or ():
            yield part._replace(name="gate", bias_value=self.gate_bias, activation="sigmoid")

    def forward(self, x: Tensor) -> Tensor:
        g: Tensor = self.transform_gate(self.layers(x))
        return g

    def extra_repr(self) -> str:
        return f"gate_bias={self.gate_bias}"


class GatedShortcut(nn.Module):
    """A shortcut multiplied by a carry gate, (1 - g(x))·shortcut(x)."""

    def __init__(self, shortcut: nn.Module, gate: Gate) -> None:
        super().__init__()
        self.shortcut = shortcut
        self.gate = gate

    def forward(self, x: Tensor) -> Tensor:
        carried: Tensor = (1 - self.gate(x)) * self.shortcut(x)
        return carried


class Blend(nn.Module):
    """y = after(g(x)·transform(x) + (1 - g(x))·shortcut(x)): a highway block that may change the size.

    Gate, transform and shortcut must have outputs of the same shape. If the size changes, g blends the new maps with
    the resized input.
    """

    def __init__(
        self,
        transform: nn.Module,
        gate: Gate,
        shortcut: nn.Module,
        after: str | Callable[[Tensor], Tensor] | None = None,
    ) -> None:
        super().__init__()
        self.transform = transform
        self.gate = gate
        self.shortcut = shortcut
        self.after = nn.Identity() if after is None else activation_module(after)

    def forward(self, x: Tensor) -> Tensor:
        y: Tensor = self.after(mix(self.shortcut(x), self.transform(x), self.gate(x)))
        return y


class Scaled(nn.Module):
    """factor·module(x)"""

    def __init__(self, module: nn.Module, factor: float) -> None:
        super().__init__()
        self.module = module
        self.factor = factor

    def forward(self, x: Tensor) -> Tensor:
        y: Tensor = self.factor * self.module(x)
        return y

    def extra_repr(self) -> str:
        return f"factor={self.factor}"
