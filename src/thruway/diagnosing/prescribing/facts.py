"""Facts about a model that cures need: its layers, activations, softmaxes, gates and blocks, from one forward pass."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.overrides import TorchFunctionMode

from thruway.watching.modules import call_model, named_outputs
from thruway.watching.operations import ACTIVATION_FUNCTIONS, ADDS, BLENDS, MAPS, role_of

__all__ = ["SOFTMAXES", "ActivationCall", "Block", "Facts", "LayerCall", "SoftmaxCall", "read_facts"]

SOFTMAXES: dict[Callable[..., Any], str] = {
    f: name
    for name in ("softmax", "log_softmax")
    for home in (torch, torch.Tensor, F)
    if (f := getattr(home, name, None)) is not None
}
_NORMS = ("batch_norm", "layer_norm", "group_norm", "rms_norm")
_LONGEST_BLOCK = 100  # tensors between the two ends of a skip connection
_RSUBS = (torch.rsub, torch.Tensor.__rsub__)


@dataclass(frozen=True)
class LayerCall:
    """One call of a function with a weight.

    Attributes:
        path: path of the module that owns the weight.
        inputs, outputs: shapes of input and output.
    """

    path: str
    inputs: tuple[int, ...]
    outputs: tuple[int, ...]


@dataclass
class ActivationCall:
    """One call of an activation function.

    Attributes:
        index: number of the call in the forward pass.
        name: name of the function, as in watching.operations.
        owner: path of the module in whose code the function is called.
        is_module: True if this module is an activation, such as nn.ReLU.
        layer: the layer whose output it takes, also through norms, dropout and reshaping; None if its input is not the
            output of a layer.
        is_normalised: a norm lies between the layer and the activation.
        outputs: shape of the result.
        is_output: True if the result is an output of the model.
        is_gate: True if the result is used as T in y = h T + x (1 - T).
    """

    index: int
    name: str
    owner: str
    is_module: bool
    layer: LayerCall | None
    is_normalised: bool
    outputs: tuple[int, ...]
    is_output: bool = False
    is_gate: bool = False


@dataclass
class SoftmaxCall:
    """One call of softmax or log_softmax over `size` values, by the module `owner`."""

    index: int
    name: str
    owner: str
    is_module: bool
    size: int
    is_output: bool = False


@dataclass(frozen=True)
class Block:
    """A module that is called once and returns a tensor of the shape of its only input."""

    path: str
    shape: tuple[int, ...]


@dataclass
class Facts:
    """Layers, activations and blocks of one forward pass of a model, in the order of its calls."""

    layers: list[LayerCall] = field(default_factory=list)
    activations: list[ActivationCall] = field(default_factory=list)
    softmaxes: list[SoftmaxCall] = field(default_factory=list)
    blocks: list[Block] = field(default_factory=list)
    skips: int = 0  # sums of two tensors that were computed from a common one

    @property
    def hidden(self) -> list[ActivationCall]:
        """The activations that are neither outputs nor gates. A sigmoid beside others is taken for a gate."""
        found = [call for call in self.activations if not call.is_output and not call.is_gate]
        others = [call for call in found if call.name != "sigmoid"]
        return others or found

    @property
    def activation(self) -> str | None:
        """The most frequent hidden activation."""
        names = [call.name for call in self.hidden]
        return max(names, key=names.count) if names else None

    @property
    def depth(self) -> int:
        """The number of calls of layers with a weight."""
        return len(self.layers)


def read_facts(model: nn.Module, inputs: Any) -> Facts:
    """Run the model once without gradients and return the facts. The caller restores random numbers and buffers."""
    recorder = _Recorder(model)
    handles = list(recorder.register())
    try:
        with torch.no_grad(), recorder:
            output = call_model(model, inputs)
    finally:
        for handle in handles:
            handle.remove()
    return recorder.finish([tensor for _, tensor in named_outputs(output)])


class _Recorder(TorchFunctionMode):
    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        self.facts = Facts()
        self._model = model
        self._owner_of = {id(p): n.rpartition(".")[0] for n, p in model.named_parameters() if n.endswith("weight")}
        self._paths: list[tuple[str, nn.Module]] = []
        self._calls: dict[str, list[Block]] = {}
        self._alive: list[Any] = []  # ids are those of living tensors only
        self._fed_by: dict[int, tuple[LayerCall, bool]] = {}
        self._same_as: dict[int, int] = {}  # a reshaped tensor -> the tensor
        self._result_of: dict[int, ActivationCall | SoftmaxCall] = {}
        self._numbers: dict[int, int] = {}  # of tensors, in the order in which they were first seen
        self._ancestors: dict[int, frozenset[int]] = {}  # numbers of the tensors from which a tensor was computed

    def register(self) -> Iterator[Any]:
        for path, module in self._model.named_modules():

            def enter(module: nn.Module, _inputs: Any, path: str = path) -> None:
                self._paths.append((path, module))

            def leave(module: nn.Module, inputs: Any, output: Any, path: str = path) -> None:
                self._paths.pop()
                is_one = len(inputs) == 1 and isinstance(inputs[0], Tensor) and isinstance(output, Tensor)
                if is_one and inputs[0].shape == output.shape:
                    self._calls.setdefault(path, []).append(Block(path, tuple(output.shape)))
                else:
                    self._calls.setdefault(path, []).extend([Block(path, ())] * 2)  # no block

            yield module.register_forward_pre_hook(enter)
            yield module.register_forward_hook(leave)

    def finish(self, outputs: list[Tensor]) -> Facts:
        for tensor in outputs:
            call = self._result_of.get(self._origin(tensor))
            if call is not None:
                call.is_output = True
        self.facts.blocks = [calls[0] for path, calls in self._calls.items() if path and len(calls) == 1]
        self._alive.clear()
        return self.facts

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        result = func(*args, **(kwargs or {}))
        if isinstance(result, Tensor) and args:
            self._alive.append(result)
            self._record(func, args, kwargs or {}, result)
        return result

    def _origin(self, tensor: Tensor) -> int:
        place = id(tensor)
        while place in self._same_as and self._same_as[place] != place:
            place = self._same_as[place]
        return place

    def _record(self, func: Any, args: Any, kwargs: Any, result: Tensor) -> None:
        owner, module = self._paths[-1] if self._paths else ("", self._model)
        is_leaf = next(module.children(), None) is None and bool(owner)
        given = args[0] if isinstance(args[0], Tensor) else None
        if func in MAPS and MAPS[func].name not in _NORMS and MAPS[func].name != "embedding":
            weight = args[MAPS[func].weight_at] if len(args) > MAPS[func].weight_at else kwargs.get("weight")
            path = self._owner_of.get(id(weight), owner)
            call = LayerCall(path, tuple(args[0].shape), tuple(result.shape))
            self.facts.layers.append(call)
            self._fed_by[id(result)] = call, False
        elif func in ACTIVATION_FUNCTIONS and func not in SOFTMAXES:
            layer, is_normalised = self._fed_by.get(id(given), (None, False))
            activation = ActivationCall(
                len(self.facts.activations),
                ACTIVATION_FUNCTIONS[func],
                owner,
                is_leaf,
                layer,
                is_normalised,
                tuple(result.shape),
            )
            self.facts.activations.append(activation)
            self._result_of[id(result)] = activation
            self._fed_by.pop(id(result), None)  # an activation in place
        elif func in SOFTMAXES and given is not None:
            dim = kwargs.get("dim", args[1] if len(args) > 1 and isinstance(args[1], int) else -1)
            size = given.shape[-1 if dim is None else dim] if given.dim() else 1
            softmax = SoftmaxCall(len(self.facts.softmaxes), SOFTMAXES[func], owner, is_leaf, size)
            self.facts.softmaxes.append(softmax)
            self._result_of[id(result)] = softmax
        elif func in _RSUBS or func in BLENDS or (func is torch.sub and given is None):
            gate = (
                args[2] if func in BLENDS and len(args) > 2 else next((a for a in args if isinstance(a, Tensor)), None)
            )
            found = self._result_of.get(id(gate))
            if isinstance(found, ActivationCall):
                found.is_gate = True
        elif given is not None and role_of(func) == "kept":
            self._same_as[id(result)] = id(given)
            if id(given) in self._fed_by:
                layer, is_normalised = self._fed_by[id(given)]
                is_norm = func in MAPS or "norm" in getattr(func, "__name__", "")
                self._fed_by[id(result)] = layer, is_normalised or is_norm
        self._inherit(func, args, result)

    def _inherit(self, func: Any, args: Any, result: Tensor) -> None:
        """Count the sums of two tensors that share an ancestor among the last calls: skip connections."""
        tensors = [a for a in args if isinstance(a, Tensor) and not isinstance(a, nn.Parameter)]
        self._alive.extend(tensors)
        oldest = len(self._numbers) - _LONGEST_BLOCK
        before = []
        for tensor in tensors:
            number = self._numbers.setdefault(id(tensor), len(self._numbers))
            known = self._ancestors.get(id(tensor), frozenset())
            before.append(frozenset(n for n in known if n >= oldest) | {number})
        is_sum = func in ADDS and len(tensors) == 2 and tensors[0].shape == tensors[1].shape
        self.facts.skips += is_sum and bool(before[0] & before[1])
        self._numbers[id(result)] = len(self._numbers)
        self._ancestors[id(result)] = frozenset().union(*before)
