"""Changes of function calls in a model's own code: other activations, skip connections, no final softmax.

A call in the code of a forward pass is not in the module tree, so it cannot be exchanged there. `Rewired` runs the
model's forward pass in a torch function mode that counts the calls and replaces some of them.
"""

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.overrides import TorchFunctionMode

from thruway.activations import ACTIVATIONS
from thruway.diagnosing.prescribing.facts import SOFTMAXES
from thruway.nn.gates import mix
from thruway.watching.operations import ACTIVATION_FUNCTIONS, MAPS

__all__ = ["LEAK", "AddSkip", "Carry", "DropSoftmax", "Rewired", "Swap", "activation_module_of"]

LEAK = 0.1


class Rewired(nn.Module):
    """A model in whose forward pass some calls are replaced.

    A replacement is a module that is called with (activation of the input, input, input of the last layer before it).

    Args:
        model: the model.
        activations: replacements of calls of activation functions, by their number in the forward pass.
        softmaxes: replacements of calls of softmax and log_softmax, likewise.
    """

    def __init__(
        self,
        model: nn.Module,
        activations: Mapping[int, nn.Module] | None = None,
        softmaxes: Mapping[int, nn.Module] | None = None,
    ) -> None:
        super().__init__()
        self.model = model
        self.activations = nn.ModuleDict({str(number): module for number, module in (activations or {}).items()})
        self.softmaxes = nn.ModuleDict({str(number): module for number, module in (softmaxes or {}).items()})

    def forward(self, *inputs: Any, **keywords: Any) -> Any:
        with _Replacing(self.activations, self.softmaxes):
            return self.model(*inputs, **keywords)


class _Replacing(TorchFunctionMode):
    def __init__(self, activations: nn.ModuleDict, softmaxes: nn.ModuleDict) -> None:
        super().__init__()
        self._tables = {"activation": activations, "softmax": softmaxes}
        self._counts = {"activation": 0, "softmax": 0}
        self._last_input: Tensor | None = None

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        kind = "softmax" if func in SOFTMAXES else "activation" if func in ACTIVATION_FUNCTIONS else None
        if kind is None or not args:
            if func in MAPS and MAPS[func].weight_at == 1 and MAPS[func].name != "embedding":
                self._last_input = args[0]
            return func(*args, **kwargs)
        table, key = self._tables[kind], str(self._counts[kind])
        self._counts[kind] += 1
        if key not in table:
            return func(*args, **kwargs)
        overwrites = kwargs.get("inplace") is True or getattr(func, "__name__", "").endswith("_")
        given = args[0].clone() if overwrites else args[0]
        result = table[key](lambda x: func(x, *args[1:], **kwargs), given, self._last_input)
        # The code may go on with the tensor that it overwrites.
        return args[0].copy_(result) if overwrites and result.shape == args[0].shape else result


class Swap(nn.Module):
    """Another activation in place of the call."""

    def __init__(self, name: str) -> None:
        super().__init__()
        self.name = name

    def forward(self, call: Any, given: Tensor, before: Tensor | None) -> Tensor:
        return F.leaky_relu(given, LEAK) if self.name == "leaky_relu" else ACTIVATIONS[self.name].function(given)

    def extra_repr(self) -> str:
        return self.name


class AddSkip(nn.Module):
    """The sum of the layer's input and the scaled result of the call."""

    def __init__(self, scale: float) -> None:
        super().__init__()
        self.scale = scale

    def forward(self, call: Any, given: Tensor, before: Tensor | None) -> Tensor:
        assert before is not None
        return torch.add(before, call(given), alpha=self.scale)

    def extra_repr(self) -> str:
        return f"x + {self.scale:.4g} f(x)"


class Carry(nn.Module):
    """The mixture of the layer's input and the result of the call: h T + x (1 - T), T = sigmoid(gate(x))."""

    def __init__(self, gate: nn.Module) -> None:
        super().__init__()
        self.gate = gate

    def forward(self, call: Any, given: Tensor, before: Tensor | None) -> Tensor:
        assert before is not None
        return mix(before, call(given), torch.sigmoid(self.gate(before)))


class DropSoftmax(nn.Module):
    """The input of a softmax in place of its result; sigmoid in place of a softmax over a single unit."""

    def __init__(self, size: int) -> None:
        super().__init__()
        self.size = size

    def forward(self, call: Any, given: Tensor, before: Tensor | None) -> Tensor:
        return torch.sigmoid(given) if self.size == 1 else given


def activation_module_of(name: str) -> nn.Module:
    """Return the module of an activation that a cure introduces."""
    return nn.LeakyReLU(LEAK) if name == "leaky_relu" else ACTIVATIONS[name].module()
