"""Highway block around arbitrary transform and gate modules."""

from collections.abc import Iterator

from torch import Tensor, nn
from torch.nn.parameter import UninitializedParameter

from thruway.errors import ConfigError, ShapeError
from thruway.init.layers import parts_of
from thruway.init.parts import Part
from thruway.nn.checks import check_gate_bias, check_not_inplace
from thruway.nn.gates import CarryGate, TransformGate, mix

__all__ = ["Highway"]


class Highway(nn.Module):
    """A highway block around any transform and gate modules that keep the shape of their input.

        y = transform(x)·T + x·(1 - T),     T = sigmoid(gate(x))

    `gate` returns pre-activations: the submodule `transform_gate` applies the sigmoid, and a hook on it receives T.
    The same holds for `carry` and `carry_gate`; with a carry, y = transform(x)·T + x·C.

    Args:
        transform: module H, which must keep the shape of its input.
        gate: module of the gate, which must keep the shape of its input and must not end in a sigmoid or softmax.
        carry: module of an independent carry gate, with the same conditions. If None, C = 1 - T.
        gate_bias: initial bias of the last layer of the gate; that of the carry gate starts at -gate_bias. If None,
            both are kept unchanged, for trained modules or gates without a bias.
    Raises:
        ConfigError: if the gate's last layer has no bias to set, if the gate ends in a squashing function, or if a
            module begins with an in-place layer, such as nn.ReLU(inplace=True).
        ShapeError: if the transform or a gate changes the shape when the block is called.
    Source:
        Srivastava, Greff & Schmidhuber 2015 (Training Very Deep Networks), eqs. 2-3, sec. 2.2.

    >>> conv = lambda: nn.Conv1d(3, 3, 5, padding=2)
    >>> block = Highway(nn.Sequential(conv(), nn.ReLU()), gate=conv(), gate_bias=-3.0)
    >>> block.gate.bias
    Parameter containing:
    tensor([-3., -3., -3.], requires_grad=True)
    """

    def __init__(
        self,
        transform: nn.Module,
        gate: nn.Module,
        carry: nn.Module | None = None,
        gate_bias: float | None = -2.0,
    ) -> None:
        super().__init__()
        self.transform = check_not_inplace("transform", transform)
        self.gate = gate
        self.transform_gate = TransformGate()
        self.carry = carry
        self.carry_gate = CarryGate() if carry is not None else None
        self.gate_bias = None if gate_bias is None else check_gate_bias(gate_bias)
        for what, module, bias in self._gates():
            _refuse_squashed(what, check_not_inplace(what, module))
            if bias is not None:
                nn.init.constant_(_last_bias(what, module), bias)

    def init_parts(self) -> Iterator[Part]:
        """Yield the last layers of the gates, so that `initialize` keeps their bias."""
        for what, module, bias in self._gates():
            if bias is not None:
                for part in parts_of(_last_layer(module), bias) or ():
                    name = f"{what}.{part.name}" if part.name else what
                    yield part._replace(name=name, bias_value=bias, activation="sigmoid")

    def forward(self, x: Tensor) -> Tensor:
        h = _same_shape("transform", self.transform(x), x)
        t = self.transform_gate(_same_shape("gate", self.gate(x), x))
        if self.carry is None or self.carry_gate is None:
            return mix(x, h, t)
        return mix(x, h, t, self.carry_gate(_same_shape("carry", self.carry(x), x)))

    def _gates(self) -> Iterator[tuple[str, nn.Module, float | None]]:
        """Yield the name, the module and the initial bias of each gate."""
        yield "gate", self.gate, self.gate_bias
        if self.carry is not None:
            yield "carry", self.carry, None if self.gate_bias is None else -self.gate_bias


_SQUASHING = (nn.Sigmoid, nn.Hardsigmoid, nn.Softmax, nn.Softmax2d, nn.LogSoftmax, TransformGate, CarryGate)


def _refuse_squashed(what: str, module: nn.Module) -> None:
    last = list(module.modules())[-1]
    if isinstance(last, _SQUASHING):
        raise ConfigError(
            f"the {what} ends in {type(last).__name__}, but Highway applies the sigmoid itself; a second one would "
            f"keep every {what} above 0.5. Remove the activation of the last layer of the {what}."
        )


def _last_layer(module: nn.Module) -> nn.Module:
    """Return the last submodule with parameters, or the module itself if no submodule has any."""
    layers = [layer for layer in module.modules() if any(True for _ in layer.parameters(recurse=False))]
    return layers[-1] if layers else module


def _last_bias(what: str, module: nn.Module) -> nn.Parameter:
    """Return the bias of the last layer, since an earlier bias would not shift the gate."""
    layer = _last_layer(module)
    bias = getattr(layer, "bias", None)
    if not isinstance(bias, nn.Parameter) or isinstance(bias, UninitializedParameter):
        raise ConfigError(
            f"the {what} has no bias to set to the gate bias: its last layer, {type(layer).__name__}, has "
            "none (yet). Give that layer a bias, or pass gate_bias=None and set the gate's start yourself."
        )
    return bias


def _same_shape(what: str, y: Tensor, x: Tensor) -> Tensor:
    if y.shape != x.shape:
        raise ShapeError(
            f"{what}(x) must have the shape of x in a Highway block, got {tuple(y.shape)} from {tuple(x.shape)}. "
            f"Make the {what} keep the shape, and change sizes between blocks with Plain or Resize."
        )
    return y
