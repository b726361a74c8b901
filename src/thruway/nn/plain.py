"""Plain fully connected layer: the baseline of highway and residual layers, and a change of width between them."""

from collections.abc import Callable, Iterator

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from thruway.activations import activation_module
from thruway.init.parts import Part
from thruway.nn.argument_checks import check_size, features_error
from thruway.nn.joint_weight import activation_name, draw_parts_

__all__ = ["Plain"]


class Plain(nn.Module):
    """A fully connected layer without a skip connection: y = activation(W x + b).

    It equals the transform H of a highway layer and is initialised in the same way, so that a comparison differs
    only in the carry. `weight` is (outputs, inputs); a forward hook on `activation` receives y.

    Args:
        inputs: features of x, (..., inputs).
        outputs: features of y, (..., outputs); None: as many as inputs.
        activation: a name from thruway.activations.ACTIVATIONS, a module, or any callable on tensors.
        generator: source of the initial weights; None: torch's global generator.
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
        """Yield the layer's map, for an initialiser."""
        yield Part("transform", self.weight.detach(), self.bias.detach(), 0.0, self.activation_name)

    def forward(self, x: Tensor) -> Tensor:
        if x.shape[-1:] != (self.inputs,):
            raise features_error("Plain", x, self.inputs, "Build it with the width of its input.")
        y: Tensor = self.activation(F.linear(x, self.weight, self.bias))
        return y

    def extra_repr(self) -> str:
        return f"{self.inputs}, {self.outputs}"
